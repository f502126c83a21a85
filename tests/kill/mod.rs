//! A run that is killed at any point around its effects comes out as one that was not killed.
//!
//! A chain is one lab and one bootstrap that is killed again and again, until a run completes. `crates/kill-points`
//! counts the points around effects. What must hold is checked after each kill and at the end.
#![allow(clippy::unwrap_used)]

mod chain;
mod end_state;
mod matrix;

use chain::{Chain, Inputs, Kills, count_points};
use end_state::assert_same;
use matrix::Matrix;

use crate::common::TestEnvironment;

/// One of so many points of a run is met by the test that runs with all others. What is done has fewer points in a
/// resumed run, so that the chain has about a third of these kills.
const SAMPLE: usize = 96;
/// Kills of that chain at least.
const KILLS: usize = 30;

#[test]
fn a_run_killed_at_points_all_over_it_converges() {
    let (points, expected) = count_points(&TestEnvironment::copy(), "infra");
    let stride = points / SAMPLE;
    assert!(stride > 0, "a run has only {points} points");
    let environment = TestEnvironment::copy();
    let mut chain = Chain::start(&environment, "infra");
    let killed = chain.run(Kills::at_points(stride, stride), |_| Inputs::Unchanged);
    assert!(killed >= KILLS, "only {killed} kills, of {points} points every {stride}th");
    assert_same(&chain.end_state(), &expected);
}

/// It continues where it was interrupted.
#[test]
#[ignore = "takes about an hour: `just kill-matrix`"]
fn every_point_and_random_instants_converge() {
    let matrix = Matrix::of(&["infra", "apps"]);
    let failures = matrix.run();
    #[expect(clippy::print_stdout, reason = "the result")]
    {
        println!("{} of {} converged", matrix.kills(), matrix.kills() + failures.len());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
