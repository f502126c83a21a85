use std::path::PathBuf;

use engine::journal::RecordedIntent;
use engine::plan::StepId;
use helmfile::{HookEvent, StateFile};
use yaml::{Location, Origin, Position};

use super::*;

const ROOT: &str = "/repository";

fn hook(command: &str, argument: &str) -> Hook {
    Hook {
        events: vec![HookEvent::Postsync],
        command: command.to_owned(),
        args: vec![argument.to_owned()],
        show_logs: false,
        folder: PathBuf::from(ROOT).join("bootstrap/blue"),
        at: place_in("01-apps.yaml"),
    }
}

fn place_in(file: &str) -> Location {
    Location { origin: Origin::new(file), position: Position { line: 3, column: 1 } }
}

fn release(name: &str) -> ReleaseId {
    ReleaseId { namespace: "rook".to_owned(), name: name.to_owned() }
}

fn key(owner: HookOwner<'_>, siblings: &[Hook], index: usize) -> HookKey {
    let place = HookPlace::new(owner, &siblings[..index], &siblings[index]);
    HookKey::new(&place, Path::new(ROOT), &FingerprintKey::new(&"bundle".into()))
}

#[test]
fn a_hook_keeps_its_key_wherever_it_stands() {
    let id = release("rook");
    let owner = HookOwner::Release(&id);
    let alone = key(owner, &[hook("seed", "a")], 0);
    assert_eq!(key(owner, &[hook("other", "a"), hook("seed", "a")], 1), alone);
    let mut moved = hook("seed", "a");
    moved.at = place_in("renamed.yaml");
    assert_eq!(key(owner, &[moved], 0), alone);
}

#[test]
fn what_differs_in_a_hook_gives_another_key() {
    let (id, other) = (release("rook"), release("ceph"));
    let owner = HookOwner::Release(&id);
    let mut before = hook("seed", "a");
    before.events = vec![HookEvent::Presync];
    let mut elsewhere = hook("seed", "a");
    elsewhere.folder = PathBuf::from(ROOT).join("bootstrap/green");
    let twice = [hook("seed", "a"), hook("seed", "a")];
    let keys = BTreeSet::from([
        key(owner, &twice, 0),
        key(owner, &twice, 1),
        key(HookOwner::Release(&other), &twice, 0),
        key(HookOwner::StateFile, &twice, 0),
        key(owner, &[hook("seed", "b")], 0),
        key(owner, &[hook("sow", "a")], 0),
        key(owner, &[before], 0),
        key(owner, &[elsewhere], 0),
    ]);
    assert_eq!(keys.len(), 8);
}

/// A state file that is added or renamed neither repeats nor skips a hook of another one.
#[test]
fn equal_hooks_of_two_state_files_are_two_hooks() {
    let file = |name: &str, hooks: Vec<Hook>| StateFile {
        path: PathBuf::from(ROOT).join(name),
        environment: "default".to_owned(),
        values: serde_json::Map::new(),
        releases: vec![],
        known: vec![],
        hooks,
    };
    let helmfile = |files| Helmfile { path: PathBuf::from(ROOT), releases: vec![], files, notices: vec![] };
    let keys = |files| {
        let helmfile = helmfile(files);
        let places = places(&helmfile);
        let keys =
            places.iter().map(|place| HookKey::new(place, Path::new(ROOT), &FingerprintKey::new(&"bundle".into())));
        keys.collect::<Vec<_>>()
    };
    let both = keys(vec![file("01.yaml", vec![hook("seed", "a")]), file("02.yaml", vec![hook("seed", "a")])]);
    assert_ne!(both[0], both[1]);
    let renamed = keys(vec![file("03.yaml", vec![hook("seed", "a")]), file("04.yaml", vec![hook("seed", "a")])]);
    assert_eq!(renamed, both);
    let added = keys(vec![file("00.yaml", vec![hook("other", "a")]), file("02.yaml", vec![hook("seed", "a")])]);
    assert_eq!(added[1], both[0]);
}

const PLACE: &str = "release rook/rook, Postsync";

fn identity() -> HookIdentity {
    HookIdentity { key: HookKey("own".to_owned()), command: "seed".to_owned(), owner_and_events: PLACE.to_owned() }
}

fn records(all: &[(&str, HookState)]) -> HookRecords {
    let record = |state| HookRecord { state, command: "seed".to_owned(), once: true, owner_and_events: None };
    HookRecords(all.iter().map(|(key, state)| (HookKey((*key).to_owned()), record(*state))).collect())
}

fn decided(own: &[(&str, HookState)], repetition: Repetition, answer: Option<HookAnswer>) -> HookDecision {
    let plan = BTreeSet::from([HookKey("own".to_owned())]);
    decide(&identity(), &records(own), repetition, answer, &plan, Completeness::Complete)
}

/// It ran before it was declared with `idempotent: false`, and was edited since: its key is another one.
#[test]
fn a_hook_that_ran_undeclared_is_asked_about_once_it_must_not_run_twice() {
    let plan = BTreeSet::from([identity().key]);
    let decided = |command: &str, place: Option<&str>| {
        let record = HookRecord {
            state: HookState::Done,
            command: command.to_owned(),
            once: false,
            owner_and_events: place.map(str::to_owned),
        };
        let records = HookRecords(BTreeMap::from([(HookKey("edited".to_owned()), record)]));
        decide(&identity(), &records, Repetition::Never, None, &plan, Completeness::Complete)
    };
    let asked = |command: &str| HookDecision::Ask(Doubt::Unmatched(vec![command.to_owned()]));
    // Its arguments changed, or it moved to another release or event; the command changed; a record of an earlier version.
    for (command, place) in
        [("seed", Some(PLACE)), ("seed", Some("state file, Prepare")), ("sow", Some(PLACE)), ("sow", None)]
    {
        assert_eq!(decided(command, place), asked(command), "{command} {place:?}");
    }
    assert_eq!(decided("sow", Some("release rook/ceph, Postsync")), HookDecision::Run, "it has nothing in common");
}

#[test]
fn a_record_names_the_release_and_the_events_of_its_hook() {
    let (id, hook) = (release("rook"), hook("seed", "a"));
    assert_eq!(HookPlace::new(HookOwner::Release(&id), &[], &hook).owner_and_events(), PLACE);
    assert_eq!(HookPlace::new(HookOwner::StateFile, &[], &hook).owner_and_events(), "state file, Postsync");
}

#[test]
fn a_hook_that_may_be_repeated_runs_until_it_is_done() {
    for (own, expected) in [
        (vec![], HookDecision::Run),
        (vec![("own", HookState::Begun)], HookDecision::Run),
        (vec![("own", HookState::Failed)], HookDecision::Run),
        (vec![("own", HookState::Done)], HookDecision::HasRun),
    ] {
        assert_eq!(decided(&own, Repetition::Allowed, None), expected, "{own:?}");
    }
}

#[test]
fn a_hook_that_must_not_run_twice_is_asked_about_when_its_outcome_is_unknown() {
    let unmatched = || Doubt::Unmatched(vec!["seed".to_owned()]);
    for (own, expected) in [
        (vec![], HookDecision::Run),
        (vec![("own", HookState::Begun)], HookDecision::Ask(Doubt::Interrupted)),
        (vec![("own", HookState::Failed)], HookDecision::Ask(Doubt::Failed)),
        (vec![("own", HookState::Done)], HookDecision::HasRun),
        (vec![("edited", HookState::Done)], HookDecision::Ask(unmatched())),
        (vec![("edited", HookState::Done), ("own", HookState::Done)], HookDecision::HasRun),
    ] {
        assert_eq!(decided(&own, Repetition::Never, None), expected, "{own:?}");
    }
}

#[test]
fn the_operators_answer_settles_every_doubt() {
    for own in [vec![], vec![("own", HookState::Begun)], vec![("own", HookState::Failed)], vec![("x", HookState::Done)]]
    {
        assert_eq!(decided(&own, Repetition::Never, Some(HookAnswer::Done)), HookDecision::Conclude, "{own:?}");
        assert_eq!(decided(&own, Repetition::Never, Some(HookAnswer::Again)), HookDecision::Run, "{own:?}");
    }
}

#[test]
fn without_any_record_a_hook_of_an_older_cluster_is_asked_about() {
    let plan = BTreeSet::from([identity().key]);
    let decide =
        |repetition| decide(&identity(), &HookRecords::default(), repetition, None, &plan, Completeness::Unknown);
    assert_eq!(decide(Repetition::Never), HookDecision::Ask(Doubt::RecordLost));
    assert_eq!(decide(Repetition::Allowed), HookDecision::Run);
}

#[test]
fn what_is_done_in_the_journal_or_in_the_cluster_is_done() {
    let key = HookKey("own".to_owned());
    for (journal, cluster, expected) in [
        (None, Some(HookState::Done), Some(HookState::Done)),
        (Some(HookState::Done), Some(HookState::Begun), Some(HookState::Done)),
        (Some(HookState::Begun), Some(HookState::Done), Some(HookState::Done)),
        (Some(HookState::Begun), Some(HookState::Failed), Some(HookState::Failed)),
        (Some(HookState::Begun), None, Some(HookState::Begun)),
        (None, None, None),
    ] {
        let one =
            |state: Option<HookState>| records(&state.map(|state| ("own", state)).into_iter().collect::<Vec<_>>());
        assert_eq!(one(journal).merged(one(cluster)).state(&key), expected, "{journal:?} {cluster:?}");
    }
}

#[test]
fn records_are_found_under_every_step_of_the_journal() {
    let intent = |key: &str, outcome: Option<HookState>| RecordedIntent {
        intent: json!({"hook": key, "command": "seed", "once": true}),
        outcome: outcome.map(|outcome| json!(outcome)),
    };
    let intents = RecordedIntents::from([
        (
            StepId::new("hook/rook/1"),
            vec![intent("own", Some(HookState::Failed)), intent("own", Some(HookState::Done))],
        ),
        (StepId::new("hook/rook/2"), vec![intent("other", None)]),
        (StepId::new("etcd/bootstrap"), vec![RecordedIntent { intent: json!({"node": "10.0.0.1"}), outcome: None }]),
    ]);
    let found = HookRecords::from_journal(&intents);
    assert_eq!(found, records(&[("own", HookState::Done), ("other", HookState::Begun)]));
}

#[test]
fn a_value_in_the_cluster_that_is_no_record_is_an_error() {
    let data =
        |text: &str| BTreeMap::from([("own".to_owned(), text.to_owned()), (COMPLETE.to_owned(), "true".to_owned())]);
    let good = HookRecords::from_cluster(&data(r#"{"state":"done","command":"seed","once":true}"#)).unwrap();
    assert_eq!(good, records(&[("own", HookState::Done)]));
    assert!(HookRecords::from_cluster(&data("done")).unwrap_err().to_string().contains("`own`"));
}
