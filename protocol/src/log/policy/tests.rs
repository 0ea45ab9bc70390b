//! Policies, and checkpoints that they accept or do not.

use super::*;
use crate::log::{
    checkpoint::{Checkpoint, Origin},
    cosignature::cosign,
    testing::{public, sign},
};

const ORIGIN: &str = "example.com/log";

fn log_key(seed: u8) -> VerifierKey {
    VerifierKey::new(ORIGIN, public(seed).as_bytes()).expect("a key")
}

fn witness(seed: u8) -> CosignerKey {
    let name = format!("witness.example/{seed}");
    CosignerKey::new(&name, public(seed).as_bytes()).expect("a key")
}

/// A checkpoint that key 1 signed and some witnesses cosigned.
fn checkpoint(witnesses: &[u8]) -> SignedCheckpoint {
    let origin = Origin::new(ORIGIN).expect("a name");
    let checkpoint = Checkpoint::new(origin, 7, [9; 32]).expect("a checkpoint");
    let mut signed = checkpoint.sign(&log_key(1), sign(1)).expect("signed");
    for &seed in witnesses {
        let line = cosign(signed.checkpoint(), &witness(seed), 5, sign(seed));
        signed.push(line.expect("cosigned")).expect("room");
    }
    signed
}

/// A text with the keys of witnesses 11 to 16 as `$11` to `$16`, and the log's as `$L`.
fn keyed(text: &str) -> Vec<u8> {
    let mut text = text.replace("$L", &log_key(1).to_string());
    for seed in 11..=16 {
        text = text.replace(&format!("${seed}"), &witness(seed).to_string());
    }
    text.into_bytes()
}

/// The example of the specification.
const EXAMPLE: &str = "log $L\n\n\
    witness X1 $11\nwitness X2 $12\nwitness X3 $13\ngroup X-witnesses 2 X1 X2 X3\n\n\
    witness Y1 $14\nwitness Y2 $15\nwitness Y3 $16\ngroup Y-witnesses any Y1 Y2 Y3\n\n\
    group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n";

#[test]
fn accepts_what_the_example_of_the_specification_accepts() {
    let policy = Policy::parse(&keyed(EXAMPLE)).expect("a policy");
    for (witnesses, found) in [
        (&[][..], false),
        (&[11, 12], false),
        (&[14, 15, 16], false),
        (&[11, 14, 15, 16], false),
        (&[11, 13, 15], true),
        (&[11, 12, 13, 14, 15, 16], true),
        (&[13, 12, 16, 40], true),
    ] {
        let verified = policy.verify(checkpoint(witnesses).into());
        let known = witnesses.iter().filter(|seed| **seed < 20).count();
        match verified {
            Ok(witnessed) => assert!(found && witnessed.cosigned.len() == known),
            Err(error) => {
                assert!(!found, "{witnesses:?}");
                assert_eq!(error, PolicyError::Quorum { found: known });
            }
        }
    }
    assert_eq!(policy.witnesses()[3].name, b"Y1");
    assert_eq!(policy.logs()[0].url, None);
}

#[test]
fn rejects_logs_that_it_does_not_name_and_wrong_cosignatures() {
    let other = Policy::parse(b"# nobody\nquorum none\n").expect("a policy");
    let refused = PolicyError::OtherLog {
        origin: ORIGIN.into(),
    };
    assert_eq!(other.verify(checkpoint(&[]).into()), Err(refused));
    assert!(other.verify_quorum(checkpoint(&[])).is_ok());
    // Another key of the same log before the one that signed.
    let text = format!("log {}\nlog $L\nquorum none\n", log_key(2));
    let two = Policy::parse(&keyed(&text)).expect("a policy");
    assert!(two.verify(checkpoint(&[]).into()).is_ok());
    let text = format!("log {}\nquorum none\n", log_key(2));
    let one = Policy::parse(text.as_bytes()).expect("a policy");
    let unsigned = CheckpointError::from(NoteError::Unsigned(ORIGIN.into()));
    assert_eq!(one.verify(checkpoint(&[]).into()), Err(unsigned.into()));
    // A cosignature of another checkpoint, though a quorum is there without it.
    let policy = Policy::parse(&keyed("log $L\nwitness a $11\nquorum none\n")).expect("a policy");
    let mut wrong = checkpoint(&[]);
    let origin = Origin::new(ORIGIN).expect("a name");
    let another = Checkpoint::new(origin, 8, [9; 32]).expect("a checkpoint");
    let line = cosign(&another, &witness(11), 5, sign(11)).expect("cosigned");
    wrong.push(line).expect("room");
    let error = policy.verify(wrong.into()).expect_err("refused");
    assert!(matches!(error, PolicyError::Cosignature(_)), "{error}");
}

#[test]
fn accepts_every_form_of_a_line() {
    for text in [
        "quorum none\n",
        "quorum none\nlog $L\n",
        "\n \t \n#\n  # log\n\tquorum\t none \t\n",
        "log $L https://log.example/\nquorum none\n",
        "witness caf\u{e9} $11 https://w.example/\nquorum caf\u{e9}\n",
        "witness a $11\ngroup g 1 a\nquorum g\n",
        "witness a $11\ngroup g all a\nquorum a\nwitness b $12\n",
        "witness all $11\nwitness 2 $12\ngroup any 2 all 2\nquorum any\n",
    ] {
        let parsed = Policy::parse(&keyed(text));
        assert!(parsed.is_ok(), "{text}: {parsed:?}");
    }
    assert!(Policy::parse(b"# \xff\nquorum none\n").is_ok());
}

#[test]
fn rejects_what_is_no_policy_and_names_the_line() {
    for (line, text) in [
        (1, "quorum none"),
        (1, "quorum\n"),
        (1, "quorum none none\n"),
        (1, "quorum a\n"),
        (2, "quorum none\nquorum none\n"),
        (1, "Quorum none\n"),
        (1, "quorum none\r\n"),
        (1, "quorum none # comment\n"),
        (1, "log\n"),
        (1, "log $L a b\n"),
        (1, "log $11\n"),
        (1, "log key\n"),
        (2, "log $L\nlog $L\n"),
        (1, "witness a\n"),
        (1, "witness a $L\n"),
        (1, "witness none $11\n"),
        (2, "witness a $11\nwitness a $12\n"),
        (2, "witness a $11\nwitness b $11\n"),
        (2, "witness a $11\ngroup a 1 a\n"),
        (2, "witness a $11\ngroup none 1 a\n"),
        (2, "witness a $11\ngroup g a\n"),
        (2, "witness a $11\ngroup g 1\n"),
        (2, "witness a $11\ngroup g all\n"),
        (2, "witness a $11\ngroup g 0 a\n"),
        (2, "witness a $11\ngroup g 2 a\n"),
        (2, "witness a $11\ngroup g 01 a\n"),
        (2, "witness a $11\ngroup g +1 a\n"),
        (2, "witness a $11\ngroup g 1 a a\n"),
        (2, "witness a $11\ngroup g 1 b\n"),
        (2, "witness a $11\ngroup g 1 none\n"),
        (2, "witness a $11\ngroup g 1 g\n"),
        (3, "witness a $11\ngroup g 1 a\ngroup h 1 a\n"),
        (1, "group g 1 a\nwitness a $11\n"),
        (1, "quorum g\nwitness g $11\n"),
    ] {
        let error = Policy::parse(&keyed(text)).expect_err(text);
        let found = match error {
            PolicyError::Line { line, .. } | PolicyError::Key { line, .. } => line,
            other => panic!("{text}: {other}"),
        };
        assert_eq!(found, line, "{text}");
    }
    assert_eq!(Policy::parse(b""), Err(PolicyError::NoQuorum));
    let long = Policy::parse(&vec![b'\n'; POLICY_SIZE_MAX + 1]);
    assert_eq!(long, Err(PolicyError::TooLong));
    // The same key under another name is the same key.
    let renamed = CosignerKey::new("other.example", public(11).as_bytes()).expect("a key");
    let text = format!("witness a $11\nwitness b {renamed}\nquorum none\n");
    assert!(Policy::parse(&keyed(&text)).is_err());
}
