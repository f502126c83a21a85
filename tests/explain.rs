//! `explain` prints the catalogue without a repository.

use crate::common::TestEnvironment;

#[test]
fn every_code_is_explained_in_any_case() {
    let environment = TestEnvironment::reference();
    for code in engine::Code::ALL {
        let run = environment.run(&["explain", &code.as_str().to_lowercase()]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(run.stdout.trim_end(), code.page().trim_end());
    }
    let run = environment.run(&["-o", "json", "explain", "T17"]);
    let page: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(page["code"], "T17");
    assert_eq!(page["title"], "the node rejected its machine config");
}

#[test]
fn an_unknown_code_is_exit_2_with_the_known_ones() {
    let run = TestEnvironment::reference().run(&["explain", "X99"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("unknown code `X99`; the codes are T01, T02"), "{}", run.stderr);
}
