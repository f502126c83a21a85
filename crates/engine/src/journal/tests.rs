use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::Code;
use crate::plan::{Fingerprint, StepId};

fn started() -> Entry {
    Entry::RunStarted {
        tool: "0.1.0".into(),
        identity: Identity { name: "blue".into(), cluster_id: Some(1), talos_ca: Some("ab12".into()) },
        resumed: false,
        plan: BTreeMap::from([(StepId::new("etcd/bootstrap"), fingerprint())]),
    }
}

fn fingerprint() -> Fingerprint {
    Fingerprint::builder().part("x").finish()
}

fn journal(folder: &Path) -> Journal {
    Journal::new(Arc::new(FileStore::open(folder)), RunId::new(Timestamp::now()), Epoch::FIRST)
}

async fn read(folder: &Path) -> Result<Opened, JournalError> {
    Journal::read(&FileStore::open(folder)).await
}

async fn history(folder: &Path) -> History {
    read(folder).await.unwrap().history
}

#[tokio::test]
async fn an_intent_without_an_outcome_survives_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let step = StepId::new("etcd/bootstrap");
    let first = journal(folder.path());
    first.append(started()).await.unwrap();
    first.append(Entry::Intent { step: step.clone(), intent: json!({"node": "10.0.0.1"}) }).await.unwrap();
    drop(first);

    let history = history(folder.path()).await;
    assert!(history.last.unwrap().is_unfinished());
    assert_eq!(
        history.recorded_intents[&step],
        [RecordedIntent { intent: json!({"node": "10.0.0.1"}), outcome: None }]
    );
}

#[tokio::test]
async fn a_finished_run_leaves_nothing_to_resume() {
    let folder = tempfile::tempdir().unwrap();
    let step = StepId::new("etcd/bootstrap");
    let journal = journal(folder.path());
    journal.append(started()).await.unwrap();
    journal.append(Entry::StepFailed { step: step.clone(), error: "no route".into() }).await.unwrap();
    let done = Entry::StepDone { step: step.clone(), fingerprint: fingerprint(), quiet_seconds: None };
    journal.append(done).await.unwrap();
    journal.append(Entry::RunEnded { end: RunEnd::Complete }).await.unwrap();

    let last = history(folder.path()).await.last.unwrap();
    assert!(!last.is_unfinished());
    assert!(last.failed.is_empty());
    assert_eq!(last.done.keys().collect::<Vec<_>>(), [&step]);
}

#[tokio::test]
async fn an_incomplete_last_line_is_ignored_with_a_notice_wherever_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let whole = journal(folder.path());
    whole.append(started()).await.unwrap();
    whole.append(Entry::RunEnded { end: RunEnd::Failed }).await.unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let first_line = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in first_line + 1..bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let opened = read(folder.path()).await.unwrap();
        assert!(opened.notice.unwrap().contains("is incomplete after a crash and is ignored"));
        assert_eq!(opened.history.last.unwrap().end, None);
        assert_eq!(std::fs::read(&path).unwrap(), &bytes[..cut], "reading changes nothing");
        journal(folder.path()).append(Entry::RunEnded { end: RunEnd::Failed }).await.unwrap();
        let repaired = std::fs::read(&path).unwrap();
        assert_eq!(repaired[..first_line], bytes[..first_line]);
        assert_eq!(String::from_utf8_lossy(&repaired[first_line..]).lines().count(), 1);
        assert!(read(folder.path()).await.unwrap().notice.is_none());
    }
}

#[tokio::test]
async fn a_newer_record_is_rejected_with_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    std::fs::write(&path, "{\"v\":4,\"entry\":\"run-started\",\"tool\":\"0.9.0\"}\n").unwrap();
    let error = read(folder.path()).await.unwrap_err().to_string();
    assert!(error.contains("line 1") && error.contains("newer version (0.9.0, format 4)"), "{error}");
}

#[tokio::test]
async fn a_damaged_line_in_the_middle_is_rejected_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    std::fs::write(&path, "{\"v\":1,\n{}\n").unwrap();
    let error = read(folder.path()).await.unwrap_err().to_string();
    assert!(error.contains("line 1") && error.contains("damaged"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"v\":1,\n{}\n");
}

/// Every record but the last is followed by others, so nothing in it can be the mark of a crash.
#[tokio::test]
async fn a_flipped_bit_before_the_last_record_is_an_error_that_names_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let whole = journal(folder.path());
    whole.append(started()).await.unwrap();
    let (first, step) = (std::fs::read(&path).unwrap().len(), StepId::new("etcd/bootstrap"));
    whole.append(Entry::Intent { step: step.clone(), intent: json!({"node": "10.0.0.1"}) }).await.unwrap();
    let second = std::fs::read(&path).unwrap().len();
    whole.append(Entry::Concluded { step, outcome: json!("accepted") }).await.unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for bit in 0..second * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &flipped).unwrap();
        let error = read(folder.path()).await.unwrap_err();
        assert_eq!(error.code(), Code::O10);
        let expected =
            format!("line {} of the journal {} is damaged", if bit < first * 8 { 1 } else { 2 }, path.display());
        assert!(error.to_string().starts_with(&expected), "bit {bit}: {error}");
    }
}

/// It is not the mark of a crash: the record before it is whole, and may be an intent.
#[tokio::test]
async fn a_flipped_bit_in_the_last_line_break_is_an_error_and_drops_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let whole = journal(folder.path());
    whole.append(started()).await.unwrap();
    whole.append(Entry::Intent { step: StepId::new("etcd/bootstrap"), intent: json!({}) }).await.unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for bit in 0..8 {
        let mut flipped = bytes.clone();
        *flipped.last_mut().unwrap() ^= 1 << bit;
        std::fs::write(&path, &flipped).unwrap();
        let error = read(folder.path()).await.unwrap_err();
        let expected = format!("line 2 of the journal {} is damaged", path.display());
        assert_eq!((error.code(), error.to_string()), (Code::O10, expected), "bit {bit}");
        journal(folder.path()).append(Entry::RunEnded { end: RunEnd::Failed }).await.unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(&flipped), "nothing is dropped");
    }
}

#[tokio::test]
async fn looking_at_the_holder_never_keeps_a_run_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    drop(FileStore::open(&path).lock(Holder::this_process("blue")).await.unwrap());
    let (stop, stopped) = tokio::sync::watch::channel(());
    let look = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = FileStore::open(path);
        while !stopped.has_changed().unwrap_or(true) {
            runtime.block_on(store.holder());
        }
    });
    let store = FileStore::open(folder.path());
    for _ in 0..2000 {
        drop(store.lock(Holder::this_process("blue")).await.unwrap());
    }
    stop.send_replace(());
    look.join().unwrap();
}

#[tokio::test]
async fn a_second_run_learns_which_run_holds_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path());
    let lock = store.lock(Holder::this_process("blue --resume")).await.unwrap();
    let error = store.lock(Holder::this_process("blue")).await.unwrap_err();
    assert_eq!(error.code(), Code::O04);
    let error = error.to_string();
    assert!(error.contains("`blue --resume`") && error.contains(&std::process::id().to_string()), "{error}");
    assert_eq!(store.holder().await.unwrap().command, "blue --resume");
    drop(lock);
    assert!(store.holder().await.is_none());
    store.lock(Holder::this_process("blue")).await.unwrap();
}

/// A store that runs full after some lines, as a disk does.
struct Full(Arc<Mutex<Vec<Vec<u8>>>>, usize);

#[async_trait]
impl Store for Full {
    fn location(&self) -> String {
        "full".to_owned()
    }

    async fn read(&self) -> io::Result<Stored> {
        Ok(Stored { lines: self.0.lock().unwrap().clone(), ..Stored::default() })
    }

    async fn append(&self, line: &str) -> io::Result<()> {
        let mut lines = self.0.lock().unwrap();
        if lines.len() >= self.1 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        lines.push(line.as_bytes().to_vec());
        Ok(())
    }

    async fn archive(&self, _epoch: Epoch, _now: Timestamp) -> io::Result<String> {
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }

    async fn lock(&self, _holder: Holder) -> Result<Lock, LockError> {
        Err(LockError::Held { holder: None })
    }

    async fn holder(&self) -> Option<Holder> {
        None
    }
}

#[tokio::test]
async fn a_full_disk_is_reported_and_loses_no_earlier_line() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let journal = Journal::new(Arc::new(Full(lines.clone(), 1)), RunId::new(Timestamp::now()), Epoch::FIRST);
    journal.append(started()).await.unwrap();
    let error = journal.append(Entry::RunEnded { end: RunEnd::Complete }).await.unwrap_err();
    assert_eq!(error.code(), Code::O05);
    assert!(matches!(error, JournalError::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull));
    assert_eq!(lines.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_archived_journal_is_kept_and_the_next_epoch_begins() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(FileStore::open(folder.path()));
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let journal = Journal::new(store.clone(), RunId::new(now), Epoch::FIRST);
    journal.append(started()).await.unwrap();
    journal.append(Entry::Learned { fact: ClusterFact::KubeSystem("uid-1".into()) }).await.unwrap();
    let before = history(folder.path()).await;
    assert_eq!((before.epoch, before.facts.kube_system.as_deref()), (Epoch::FIRST, Some("uid-1")));
    let lines = std::fs::read(folder.path().join("journal.jsonl")).unwrap();

    // Killed before the rename, the next run decides again; after it, the next epoch begins all the same.
    let archive = store.archive(before.epoch, now).await.unwrap();
    assert!(archive.ends_with("/journal.epoch-1.20231114T221320Z.jsonl"), "{archive}");
    assert_eq!(std::fs::read(&archive).unwrap(), lines);
    let between = history(folder.path()).await;
    assert_eq!(between, History::beginning(Epoch::FIRST.next()));

    // The same store goes on with a new file. A crash may cut its first record off.
    let next = Entry::RunStarted {
        tool: "0.1.0".into(),
        identity: Identity { name: "blue".into(), cluster_id: None, talos_ca: None },
        resumed: false,
        plan: BTreeMap::new(),
    };
    Journal::new(store.clone(), RunId::new(now), between.epoch).append(next).await.unwrap();
    let path = folder.path().join("journal.jsonl");
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(history(folder.path()).await, between);
    }
    std::fs::write(&path, &whole).unwrap();
    let after = history(folder.path()).await;
    assert_eq!((after.epoch, after.facts.kube_system), (Epoch::new(2), None));
    // The run of the first epoch is still at work somewhere: what it writes is not about this cluster.
    std::fs::write(&path, &whole).unwrap();
    let store = Arc::new(FileStore::open(folder.path()));
    let late = Journal::new(store.clone(), RunId::new(now), Epoch::FIRST);
    late.append(Entry::Learned { fact: ClusterFact::KubeSystem("uid-1".into()) }).await.unwrap();
    assert_eq!(history(folder.path()).await.facts.kube_system, None);
    assert_eq!(std::fs::read(&archive).unwrap(), lines);
    // Within the same second nothing is overwritten.
    std::fs::write(folder.path().join("journal.epoch-2.20231114T221320Z.jsonl"), "kept").unwrap();
    assert_eq!(store.archive(Epoch::new(2), now).await.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
}
