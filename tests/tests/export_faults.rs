//! Every write of an export fails once, in every way: nothing acknowledged is lost, no half
//! snapshot is listed, and the next export goes on.
#![cfg(feature = "fault")]

use std::sync::Arc;

use agent::{
    blocks::Blocks,
    catalog,
    export::{Destination, ExportError, ExportOptions, ExportReport},
    open::open,
    progress::Progress,
    verify,
};
use souverain_tests::node::{Node, Rows, rows};
use store::{FaultKind, Faults, Store, StoreError, Table};

const KINDS: [FaultKind; 4] = [
    FaultKind::Landed,
    FaultKind::Lost,
    FaultKind::Torn,
    FaultKind::NoSpace,
];

fn source() -> Rows {
    Rows::new(&[("a", &rows(1, 20_000)), ("b", &rows(2, 50))])
}

/// Commits often, so that faults hit between commits, in them and after them.
fn options() -> ExportOptions {
    ExportOptions {
        commit_every: 1,
        ..ExportOptions::default()
    }
}

fn export_with(node: &Node, faults: &Arc<Faults>) -> Result<ExportReport, ExportError> {
    let store = Store::open_with_faults(&node.home(), "test", faults.clone())?;
    node.try_export(Destination::Store(&store), source(), &options())
}

/// Verifies all that is listed, and returns how many that is.
fn check_listed(node: &Node) -> usize {
    let store = node.store();
    let blocks = Blocks::Store(&store);
    let listed = catalog::snapshots(&store).expect("lists");
    for (root, _) in &listed {
        let progress = Progress::default();
        let (keyless, named) = verify::keyless(&blocks, root, None, &progress).expect("reads");
        assert_eq!(keyless.damage, []);
        let snapshot = open(&blocks, root, &node.identities, None).expect("opens");
        let opened = verify::opened(&blocks, &snapshot, &named, None, &progress).expect("reads");
        assert_eq!((opened.damage, opened.lies), (vec![], vec![]));
        assert_eq!(opened.rows, 20_050);
    }
    listed.len()
}

#[test]
fn an_export_survives_the_failure_of_any_write() {
    let counting = Arc::new(Faults::none());
    let node = Node::new();
    export_with(&node, &counting).expect("exports without a fault");
    assert_eq!(check_listed(&node), 1);
    let writes = counting.writes();
    assert!(writes > 20, "{writes} writes");
    let mut went_on = 0;
    for kind in KINDS {
        for nth in 0..writes {
            let node = Node::new();
            let faults = Arc::new(Faults::new(nth, kind));
            let result = export_with(&node, &faults);
            if faults.writes() <= nth {
                continue;
            }
            if kind == FaultKind::NoSpace {
                let full = matches!(
                    &result,
                    Err(ExportError::Store(
                        StoreError::Full { .. } | StoreError::Io { .. }
                    ))
                );
                assert!(full || result.is_ok(), "{kind:?} {nth}: {result:?}");
            }
            let before = check_listed(&node);
            assert!(
                before >= usize::from(result.is_ok()),
                "{kind:?} {nth}: an acknowledged snapshot is gone"
            );
            let durable = node.store().scan(Table::Pieces).count() as u64;
            let again = export_with(&node, &Arc::new(Faults::none())).expect("goes on");
            assert_eq!(check_listed(&node), before + 1, "{kind:?} {nth}");
            assert!(
                again.segments_reused >= durable,
                "{kind:?} {nth}: sealed again"
            );
            went_on += usize::from(before == 0 && durable > 0);
        }
    }
    assert!(
        went_on > 20,
        "only {went_on} exports found durable segments"
    );
}
