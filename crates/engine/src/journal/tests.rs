use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::json;

use super::*;
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

fn journal(path: &std::path::Path) -> Journal {
    Journal::new(Box::new(FileStore::open(path).unwrap().store), RunId::new(Timestamp::now()))
}

#[test]
fn an_intent_without_an_outcome_survives_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let step = StepId::new("etcd/bootstrap");
    let mut first = journal(&path);
    first.append(started()).unwrap();
    first.append(Entry::Intent { step: step.clone(), intent: json!({"node": "10.0.0.1"}) }).unwrap();
    drop(first);

    let history = FileStore::read(&path).unwrap();
    assert!(history.last.unwrap().unfinished());
    assert_eq!(history.priors[&step], [Prior { intent: json!({"node": "10.0.0.1"}), outcome: None }]);
}

#[test]
fn a_finished_run_leaves_nothing_to_resume() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let step = StepId::new("etcd/bootstrap");
    let mut journal = journal(&path);
    journal.append(started()).unwrap();
    journal.append(Entry::StepFailed { step: step.clone(), error: "no route".into() }).unwrap();
    journal.append(Entry::StepDone { step: step.clone(), fingerprint: fingerprint() }).unwrap();
    journal.append(Entry::RunEnded { end: RunEnd::Complete }).unwrap();

    let last = FileStore::read(&path).unwrap().last.unwrap();
    assert!(!last.unfinished());
    assert!(last.failed.is_empty());
    assert_eq!(last.done.keys().collect::<Vec<_>>(), [&step]);
}

#[test]
fn a_torn_last_line_is_dropped_with_a_notice_wherever_it_tore() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let mut whole = journal(&path);
    whole.append(started()).unwrap();
    whole.append(Entry::RunEnded { end: RunEnd::Failed }).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let first_line = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in first_line + 1..bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let opened = FileStore::open(&path).unwrap();
        assert!(opened.notice.unwrap().contains("torn"));
        assert_eq!(opened.history.last.unwrap().end, None);
        assert_eq!(std::fs::read(&path).unwrap(), &bytes[..first_line]);
    }
}

#[test]
fn a_newer_record_is_refused_with_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    std::fs::write(&path, "{\"v\":2,\"entry\":\"run-started\",\"tool\":\"0.9.0\"}\n").unwrap();
    let error = FileStore::open(&path).unwrap_err().to_string();
    assert!(error.contains("line 1") && error.contains("newer version (0.9.0, format 2)"), "{error}");
}

#[test]
fn a_damaged_line_in_the_middle_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    std::fs::write(&path, "{\"v\":1,\n{}\n").unwrap();
    let error = FileStore::open(&path).unwrap_err().to_string();
    assert!(error.contains("line 1") && error.contains("damaged"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"v\":1,\n{}\n");
}

#[test]
fn a_second_run_is_told_who_holds_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lock");
    let lock = Lock::take(&path, "blue --resume").unwrap();
    let error = Lock::take(&path, "blue").unwrap_err().to_string();
    assert!(error.contains("`blue --resume`") && error.contains(&std::process::id().to_string()), "{error}");
    assert_eq!(Lock::holder(&path).unwrap().command, "blue --resume");
    drop(lock);
    assert!(Lock::holder(&path).is_none());
    Lock::take(&path, "blue").unwrap();
}

/// A store that runs full after some lines, as a disk does.
struct Full(Arc<Mutex<Vec<String>>>, usize);

impl Store for Full {
    fn append(&mut self, line: &str) -> io::Result<()> {
        let mut lines = self.0.lock().unwrap();
        if lines.len() >= self.1 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        lines.push(line.to_owned());
        Ok(())
    }
}

#[test]
fn a_full_disk_is_told_and_loses_no_earlier_line() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let mut journal = Journal::new(Box::new(Full(lines.clone(), 1)), RunId::new(Timestamp::now()));
    journal.append(started()).unwrap();
    let error = journal.append(Entry::RunEnded { end: RunEnd::Complete }).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(lines.lock().unwrap().len(), 1);
}
