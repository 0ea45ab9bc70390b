//! An agent has its log cosigned whenever it grew: by the members of the federation that are witnesses, over the node,
//! and by those of the home's policy, over HTTP.

use std::{
    error::Error,
    path::{Path, PathBuf},
    time::Duration,
};

use libp2p::PeerId;
use protocol::log::cosignature::{self, CosignerKey};
use tokio::{
    sync::{mpsc::UnboundedSender, watch},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    Answers, LogError, OwnPolicy, Witness, behind,
    cosigning::{CosignError, WITNESS_WAIT, Way, ask_all, client, keep_cosignatures},
    following::Told,
    keys_of, open_own,
    own::signed_head,
};
use crate::{
    federation::{Federation, Role},
    node::Handle,
};

/// How soon witnesses are asked again that did not cosign.
const AGAIN_AFTER: Duration = Duration::from_secs(15);

/// Has the log cosigned for as long as it is followed how it grows. `told` hears of cosignatures.
pub(crate) async fn run(
    home: PathBuf,
    node: Handle,
    told: UnboundedSender<Told>,
    mut grown: watch::Receiver<u64>,
) {
    loop {
        grown.mark_unchanged();
        let all = match once(&home, &node, &told).await {
            Ok(all) => all,
            Err(error) => {
                tracing::error!(error = &error as &dyn Error, "the log is not cosigned");
                false
            }
        };
        let more = match all {
            true => grown.changed().await,
            false => timeout(AGAIN_AFTER, grown.changed())
                .await
                .unwrap_or(Ok(())),
        };
        if more.is_err() {
            return;
        }
    }
}

/// Asks all witnesses that did not cosign the checkpoint yet. True if all did then.
async fn once(home: &Path, node: &Handle, told: &UnboundedSender<Told>) -> Result<bool, LogError> {
    let Some(reader) = open_own(home)? else {
        return Ok(true);
    };
    let head = signed_head(&reader, &keys_of(&reader)?)?;
    let lacks = |key: &CosignerKey| cosignature::verify(head.note(), key).is_err();
    let federation = Federation::load(home)?;
    let members = federation.members().filter_map(|member| {
        let key = member.invite.witness.as_ref().filter(|key| lacks(key))?;
        let counts = member.roles.contains(&Role::Witness);
        counts.then_some((key, member.invite.peer))
    });
    let members: Vec<(&CosignerKey, PeerId)> = members.collect();
    let policy = OwnPolicy::of_home(home).map_err(LogError::Policy)?;
    let named = policy.iter().flat_map(OwnPolicy::asked);
    let named: Vec<Witness> = named
        .map(|(_, witness)| witness)
        .filter(|one| lacks(&one.key))
        .collect();
    if members.is_empty() && named.is_empty() {
        return Ok(true);
    }
    let client = client()?;
    let by_web = named
        .iter()
        .map(|one| (&one.key, Way::Web(&client, &one.url)));
    let by_node = members
        .iter()
        .map(|(key, peer)| (*key, Way::Member(node, *peer)));
    let ways: Vec<_> = by_node.chain(by_web).collect();
    let keys: Vec<CosignerKey> = ways.iter().map(|(key, _)| (*key).clone()).collect();
    let (checkpoint, mut answers) = ask_all(&reader, ways, WITNESS_WAIT).await?;
    let said = answers.split_off(members.len());
    heed_all(home, told, &named, &said)?;
    answers.extend(said);
    let mut lines = Vec::new();
    for (key, answer) in keys.into_iter().zip(answers) {
        match answer {
            Ok(line) => lines.push((key, line)),
            Err(error) if error.is_of_the_log() => {
                tracing::error!(
                    witness = key.name(),
                    error = &error as &dyn Error,
                    "a witness saw another log than this"
                );
            }
            Err(error) => {
                tracing::debug!(
                    witness = key.name(),
                    error = &error as &dyn Error,
                    "a witness did not cosign"
                );
            }
        }
    }
    let missing = lines.len() < members.len() + named.len();
    if !lines.is_empty() {
        let home = home.to_owned();
        let kept = spawn_blocking(move || {
            let lines: Vec<_> = lines
                .iter()
                .map(|(key, line)| (key, line.clone()))
                .collect();
            keep_cosignatures(&home, &checkpoint, &lines)
        });
        kept.await
            .map_err(|cause| LogError::Client(cause.into()))??;
        // Nobody listens any more when the agent ends.
        let _ = told.send(Told::Grew);
    }
    Ok(!missing)
}

/// Remembers what the witnesses of the policy saw that is not here, and tells who follows the log of it. (Members tell each
/// other of what they have.)
fn heed_all(
    home: &Path,
    told: &UnboundedSender<Told>,
    named: &[Witness],
    said: &Answers,
) -> Result<(), LogError> {
    behind::heed(home, named, said)?;
    let shown = said.iter().find_map(|answer| match answer {
        Err(CosignError::Behind { shown, .. }) => shown.clone(),
        Err(CosignError::Forked { proof, .. }) => {
            let (shown, _) = proof.as_deref()?;
            Some(Box::new(shown.clone()))
        }
        _ => None,
    });
    // Nobody listens any more when the agent ends.
    if let Some(shown) = shown {
        let _ = told.send(Told::Shown(shown));
    }
    let size = open_own(home)?.map_or(0, |own| own.head().size);
    match behind::may_sign(home, size) {
        Err(
            error @ (LogError::Doubted { .. } | LogError::Denied { .. } | LogError::Forked { .. }),
        ) => {
            let _ = told.send(Told::Doubted(error));
            Ok(())
        }
        // Who follows the log was told, or knows.
        Ok(()) | Err(LogError::Behind { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
