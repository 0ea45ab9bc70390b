//! `man`: one page, or one a verb.

mod souverain;

use souverain::Sandbox;

#[test]
fn prints_the_page() {
    let page = Sandbox::new().ok(&["man"]);
    assert!(page.contains(".TH souverain 1"), "{page}");
    assert!(page.contains("Exit codes"), "{page}");
}

#[test]
fn writes_a_page_for_each_verb() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["man", "pages"]);
    for name in ["souverain", "souverain-export", "souverain-car-import"] {
        let page = std::fs::read_to_string(sandbox.path(&format!("pages/{name}.1"))).expect(name);
        assert!(page.contains(".SH NAME"), "{name}");
    }
}

#[test]
fn says_why_it_cannot_write() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("file"), "").expect("writes");
    sandbox
        .run(&["man", "file"])
        .failed(1, "Error: cannot write pages to file\nCaused by: ");
}
