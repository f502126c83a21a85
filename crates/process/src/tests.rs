use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;

fn shell(script: &str) -> Command {
    Command::new("/bin/sh").arg("-c").arg(script)
}

#[tokio::test]
async fn input_goes_in_and_output_comes_out() {
    let output = shell("cat; echo progress >&2").stdin("hunter2".into()).run().await.unwrap();
    assert_eq!(output.stdout, b"hunter2");
    assert_eq!(output.stderr, "progress");
}

#[tokio::test]
async fn a_failure_carries_status_and_the_end_of_stderr() {
    let error = shell("echo no such chart >&2; exit 3").run().await.unwrap_err();
    assert_eq!(error.to_string(), "`sh` failed with exit status: 3: no such chart");
}

#[tokio::test]
async fn a_child_past_its_deadline_is_ended_with_its_children() {
    let (reader, writer) = std::io::pipe().unwrap();
    let held = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&writer));
    let error =
        shell(&format!("sleep 600 >{held} & wait")).deadline(Duration::from_millis(200)).run().await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error}");
    drop(writer);
    let end = tokio::task::spawn_blocking(move || std::io::Read::read_to_end(&mut { reader }, &mut Vec::new()));
    assert_eq!(end.await.unwrap().unwrap(), 0, "a grandchild still holds the pipe");
}

#[tokio::test]
async fn a_child_that_prints_nothing_is_ended_and_one_that_prints_is_not() {
    let limit = Duration::from_millis(200);
    let error = shell("echo begun; exec sleep 600").silence_limit(limit).run().await.unwrap_err();
    assert!(matches!(error, Error::Silent { .. }), "{error}");
    assert_eq!(error.to_string(), "`sh` printed nothing for 0.2s and was stopped");
    let output = shell("echo done").silence_limit(Duration::from_mins(1)).run().await.unwrap();
    assert_eq!(output.stdout, b"done\n");
}

#[tokio::test]
async fn lines_are_handed_on_as_they_come() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = lines.clone();
    shell("echo one; echo two")
        .on_line(move |stream, line| kept.lock().unwrap().push((stream, line.to_owned())))
        .run()
        .await
        .unwrap();
    assert_eq!(*lines.lock().unwrap(), [(Stream::Out, "one".to_owned()), (Stream::Out, "two".to_owned())]);
}

#[tokio::test]
async fn a_secret_file_can_be_read_twice_by_a_child_and_lies_on_no_disk() {
    let file = SecretFile::new(&"kubeconfig".into()).unwrap();
    let path = file.path();
    let output = shell(&format!("cat {path}; cat {path}; readlink {path}")).run().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("kubeconfigkubeconfig"), "{text}");
    assert!(text.contains("memfd:"), "{text}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let error = Command::new("/nowhere/helm").run().await.unwrap_err();
    assert!(error.to_string().starts_with("cannot start `helm`"), "{error}");
}
