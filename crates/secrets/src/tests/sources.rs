//! All sources together: other managers' programs, sessions that expire, what the redactor knows.

use std::io::{BufReader, Cursor};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use error_report::ErrorReport;
use futures::FutureExt;
use secrecy::ExposeSecret;

use crate::{Adapter, Adapters, Error, ErrorKind, OnePassword, OperatorPrompt, Redactor, Sources, placeholders};

/// A program of one's own in a folder.
fn program(folder: &Path, name: &str, script: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\nset -eu\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn adapter(words: &[&str], pointer: Option<&str>) -> Adapter {
    Adapter { command: words.iter().map(|word| (*word).to_owned()).collect(), pointer: pointer.map(str::to_owned) }
}

fn sources(folder: &Path, one_password: OnePassword, adapters: Vec<(&str, Adapter)>) -> Sources {
    Sources {
        one_password,
        adapters: Adapters(adapters.into_iter().map(|(scheme, adapter)| (scheme.to_owned(), adapter)).collect()),
        accounts: std::collections::BTreeMap::new(),
        folder: folder.to_owned(),
        variables: std::collections::BTreeMap::new(),
        redactor: Redactor::default(),
        prompt: None,
    }
}

#[tokio::test]
async fn vaults_of_two_accounts_are_filled_in_by_one_call_each() {
    let folder = tempfile::tempdir().unwrap();
    let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/op");
    let asked = folder.path().join("asked");
    let script = format!("echo \"$*\" >> {}; exec {} \"$@\"", asked.display(), stand_in.display());
    let op = program(folder.path(), "op", &script);
    let mut sources = sources(folder.path(), OnePassword::Program(op), vec![]);
    let template = "a: op://k8s-ops/cloudflare/api token\nb: \"{{ op://work-ops/registry/password }}\"\n\
                    c: op://k8s-ops/encoded/value\nd: |\n  x=op://work-ops/registry/password\n";
    let error = sources.fill(template).await.unwrap_err();
    assert!(
        ErrorReport::new(&error)
            .to_string()
            .starts_with("cannot resolve op://work-ops/registry/password (line 2, column 5): "),
        "{error}"
    );
    sources.accounts.insert("work-ops".to_owned(), "work.1password.com".to_owned());
    let filled = sources.fill(template).await.unwrap();
    insta::assert_snapshot!(filled.expose_secret(), @r#"
    a: stand-in-cloudflare-token
    b: "stand-in-of-work"
    c: c3RhbmQtaW4=
    d: |
      x=stand-in-of-work
    "#);
    assert_eq!(sources.redactor.redact("stand-in-of-work"), "******");
    let asked = std::fs::read_to_string(asked).unwrap();
    assert_eq!(asked, "inject\ninject --account work.1password.com\ninject\n");
    sources.accounts.insert("work-ops".to_owned(), "gone.1password.com".to_owned());
    let error = sources.fill(template).await.unwrap_err();
    assert!(matches!(error, Error::NotSignedIn(_)), "{error}");
}

#[tokio::test]
async fn programs_of_other_managers_print_values_and_get_references_only() {
    let folder = tempfile::tempdir().unwrap();
    let bws = program(
        folder.path(),
        "bws",
        r#"[ "$*" = "secret get 1234 --output json" ] || { echo "unexpected: $*" >&2; exit 1; }
echo "{\"id\": \"1234\", \"value\": \"of bws op://k8s-ops/not/mine\"}"; echo asked >> asked"#,
    );
    let bao = program(
        folder.path(),
        "bao",
        r#"[ "$*" = "kv get -format=json kv/app" ] || exit 2
echo '{"data": {"data": {"password": "of bao", "port": 5432}}}'"#,
    );
    let infisical = program(folder.path(), "infisical", r#"echo "$*""#);
    let [bws, bao, infisical] = [bws, bao, infisical].map(|path| path.display().to_string());
    let sources = sources(
        folder.path(),
        OnePassword::Unavailable,
        vec![
            ("bws", adapter(&[&bws, "secret", "get", "{path}", "--output", "json"], Some("/value"))),
            ("bao", adapter(&[&bao, "kv", "get", "-format=json", "{path}"], Some("/data/data"))),
            (
                "infisical",
                adapter(&[&infisical, "secrets", "get", "{3}", "--env", "{1}", "--path", "/{2}", "--plain"], None),
            ),
        ],
    );
    let template = "a: bws://1234\nb: '{{ bws://1234 }}'\nc: bao://kv/app#/password\nd: \"bao://kv/app#port\"\n\
                    e: infisical://prod/folder/NAME\nxbws://1234\n";
    let filled = sources.fill(template).await.unwrap();
    insta::assert_snapshot!(filled.expose_secret(), @"
    a: of bws op://k8s-ops/not/mine
    b: 'of bws op://k8s-ops/not/mine'
    c: of bao
    d: \"5432\"
    e: secrets get NAME --env prod --path /folder --plain
    xbws://1234
    ");
    assert_eq!(std::fs::read_to_string(folder.path().join("asked")).unwrap(), "asked\n", "each is asked for once");
    assert_eq!(sources.redactor.redact("of bws op://k8s-ops/not/mine, of bao"), "******, ******");

    for (reference, expected) in [
        ("bws://5678", "cannot resolve bws://5678 (line 1, column 4): "),
        ("bao://kv/app#/gone", "has no value at `/data/data/gone`"),
        ("bao://kv/app", "has no value at `/data/data`"),
    ] {
        let error = sources.fill(&format!("a: {reference}\n")).await.unwrap_err();
        let error = ErrorReport::new(&error).to_string();
        assert!(error.contains(expected) && !error.contains("of bao"), "{error}");
    }
}

#[tokio::test]
async fn references_of_vals_are_known_without_a_declaration() {
    let adapters = Adapters::default();
    let text = "a: ref+vault://kv/app#/password\nb: 'secretref+file://x.yaml#/a+/suffix'\nc: ref+op://v/i/f\n";
    let found: Vec<String> = adapters
        .references(text)
        .into_iter()
        .map(|reference| format!("{}:{} {}", reference.line, reference.column, reference.text))
        .collect();
    insta::assert_snapshot!(found.join("\n"), @"
    1:4 ref+vault://kv/app#/password
    2:5 secretref+file://x.yaml#/a
    3:4 ref+op://v/i/f
    ");
    assert_eq!(placeholders(text, &adapters), "a: placeholder\nb: 'placeholder/suffix'\nc: placeholder\n");
    assert!(super::op::references(text).is_empty(), "they are not op's");
    let folder = tempfile::tempdir().unwrap();
    let missing = sources(folder.path(), OnePassword::Unavailable, vec![("gone", adapter(&["no-such-program"], None))]);
    let error = missing.fill("a: gone://x\n").await.unwrap_err();
    assert_eq!(
        format!("{error}: {}", error.next()),
        "`no-such-program` not found: install no-such-program, which resolves gone://x"
    );
}

#[tokio::test]
async fn without_a_provider_for_1password_the_error_names_the_alternatives() {
    let folder = tempfile::tempdir().unwrap();
    let error = sources(folder.path(), OnePassword::Unavailable, vec![]).fill("a: op://v/i/f\n").await.unwrap_err();
    assert!(matches!(&error, Error::Missing { program, next } if program == "op" && next.contains("OP_CONNECT_HOST")));
}

/// `op` whose session is over until the file `unlocked` is there; then its first line is the value.
fn locked(folder: &Path) -> OnePassword {
    let script = r#"cd "$(dirname "$0")"
echo asked >> asked
[ -e unlocked ] || { echo "[ERROR] 2026/01/31 12:00:00 session expired, sign in to create a new session" >&2; exit 1; }
sed "s|op://v/i/f|$(cat unlocked)|""#;
    OnePassword::Program(program(folder, "op", script))
}

#[tokio::test]
async fn an_expired_session_is_awaited_at_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let mut sources = sources(folder.path(), locked(folder.path()), vec![]);
    let error = sources.fill("a: op://v/i/f\n").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");

    // Enter alone does not unlock anything: the second time it is unlocked.
    let shown = Arc::new(Mutex::new(Vec::new()));
    let (messages, unlocked) = (shown.clone(), folder.path().join("unlocked"));
    let show = move |message: &str| {
        messages.lock().unwrap().push(message.to_owned());
        if messages.lock().unwrap().len() == 2 {
            std::fs::write(&unlocked, "the-value").unwrap();
        }
    };
    let (mut keys, pipe) = std::os::unix::net::UnixStream::pair().unwrap();
    let answer = move |message: &str| {
        show(message);
        std::io::Write::write_all(&mut keys, b"\n").unwrap();
    };
    let answer = Mutex::new(answer);
    let prompt = OperatorPrompt::new(
        move |message| (answer.lock().unwrap())(message),
        BufReader::new(pipe),
        || std::future::pending().boxed(),
    );
    sources.prompt = Some(prompt);
    assert_eq!(sources.fill("a: op://v/i/f\n").await.unwrap().expose_secret(), "a: the-value\n");
    let shown = shown.lock().unwrap();
    assert_eq!(shown.len(), 2);
    assert!(shown[0].contains("press Enter; Ctrl-C stops the run, --resume continues it"), "{}", shown[0]);
    assert_eq!(sources.redactor.redact("the-value"), "******");
}

#[tokio::test]
async fn stopping_or_closing_the_terminal_returns_the_error_and_the_next_command() {
    let folder = tempfile::tempdir().unwrap();
    let mut sources = sources(folder.path(), locked(folder.path()), vec![]);
    let (_keys, pipe) = std::os::unix::net::UnixStream::pair().unwrap();
    sources.prompt = Some(OperatorPrompt::new(|_| (), BufReader::new(pipe), || std::future::ready(()).boxed()));
    assert_eq!(sources.fill("a: op://v/i/f\n").await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    sources.prompt = Some(OperatorPrompt::new(|_| (), Cursor::new(""), || std::future::pending().boxed()));
    let error = sources.fill("a: op://v/i/f\n").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.next().as_str()),
        (ErrorKind::Unauthenticated, "eval $(op signin), or set OP_SERVICE_ACCOUNT_TOKEN")
    );
}
