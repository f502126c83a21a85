use std::cell::Cell;

use tokio::time::Instant;

use super::*;

const PLAIN: RetryPolicy = RetryPolicy::new(ms(100), ms(1000)).with_jitter(Jitter::None);

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn delays_double_up_to_the_longest() {
    let delays: Vec<Duration> = PLAIN.seeded(0).take(6).collect();
    assert_eq!(delays, [100, 200, 400, 800, 1000, 1000].map(ms));
    let delays: Vec<Duration> = PLAIN.with_factor(Factor::percent(130)).seeded(0).take(3).collect();
    assert_eq!(delays, [100, 130, 169].map(ms));
    let delays: Vec<Duration> = RetryPolicy::every(ms(100)).seeded(0).take(2).collect();
    assert_eq!(delays, [100, 100].map(ms));
}

#[test]
fn jitter_is_decided_by_the_seed_and_adds_at_most_the_delay() {
    let policy = PLAIN.with_jitter(Jitter::UpToDouble);
    let delays = |seed| policy.seeded(seed).take(200).collect::<Vec<Duration>>();
    assert_eq!(delays(1), delays(1));
    assert_ne!(delays(1), delays(2));
    let settled = &delays(1)[10..];
    assert!(settled.iter().all(|delay| (ms(1000)..ms(2000)).contains(delay)), "{settled:?}");
    let shortest = settled.iter().min().copied().unwrap_or_default();
    let longest = settled.iter().max().copied().unwrap_or_default();
    assert!(shortest < ms(1100) && longest > ms(1900), "from {shortest:?} to {longest:?}: not spread");
}

#[test]
fn a_budget_of_retries_or_of_delay_ends_them() {
    assert_eq!(PLAIN.with_budget(Budget::Retries(3)).seeded(0).count(), 3);
    // 100 + 200 + 400 = 700; 800 more would be too much.
    assert_eq!(PLAIN.with_budget(Budget::Delay(ms(1499))).seeded(0).count(), 3);
    assert_eq!(PLAIN.with_budget(Budget::Delay(ms(1500))).seeded(0).count(), 4);
    assert_eq!(PLAIN.seeded(0).take(5000).count(), 5000);
    assert_eq!(RetryPolicy::never().seeded(0).count(), 0);
}

#[test]
fn what_the_other_side_asks_for_replaces_the_delay_and_counts() {
    let mut backoff = PLAIN.with_budget(Budget::Delay(ms(5000))).seeded(0);
    assert_eq!(backoff.next_delay(Some(ms(3000))), Some(ms(3000)));
    assert_eq!(backoff.next_delay(Some(ms(3000))), None, "6 s is more than the budget");
    assert_eq!(backoff.next_delay(Some(ms(2000))), Some(ms(2000)), "a refused delay is not spent");
}

#[test]
fn progress_refills_the_budget_and_resets_the_delay() {
    let mut backoff = PLAIN.with_budget(Budget::Retries(2)).seeded(0);
    assert_eq!(backoff.by_ref().count(), 2);
    backoff.refill();
    assert_eq!(backoff.collect::<Vec<_>>(), [100, 200].map(ms));
}

#[tokio::test(start_paused = true)]
async fn an_operation_is_attempted_until_it_succeeds() {
    let (began, attempts) = (Instant::now(), Cell::new(0));
    let attempt = || {
        attempts.set(attempts.get() + 1);
        std::future::ready(if attempts.get() == 4 { Ok(attempts.get()) } else { Err("busy") })
    };
    assert_eq!(retry(PLAIN, attempt, |_| Verdict::Retry).await, Ok(4));
    assert_eq!(began.elapsed(), ms(700));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_no_retry_changes_and_a_spent_budget_end_it_with_the_last_error() {
    let attempts = Cell::new(0);
    let attempt = || {
        attempts.set(attempts.get() + 1);
        std::future::ready(Err::<(), _>(attempts.get()))
    };
    assert_eq!(retry(PLAIN, attempt, Verdict::by(|error| *error < 3)).await, Err(3));
    attempts.set(0);
    assert_eq!(retry(PLAIN.with_budget(Budget::Retries(2)), attempt, |_| Verdict::Retry).await, Err(3));
}

#[tokio::test(start_paused = true)]
async fn the_driver_waits_as_long_as_the_other_side_asks() {
    let (began, attempts) = (Instant::now(), Cell::new(0));
    let attempt = || {
        attempts.set(attempts.get() + 1);
        std::future::ready(if attempts.get() == 2 { Ok(()) } else { Err(ms(7000)) })
    };
    assert_eq!(retry(PLAIN, attempt, |delay| Verdict::RetryAfter(*delay)).await, Ok(()));
    assert_eq!(began.elapsed(), ms(7000));
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_condition_has_no_budget() {
    let began = Instant::now();
    let mut backoff = PLAIN.with_budget(Budget::Retries(1)).seeded(0);
    for _ in 0..3 {
        backoff.wait().await;
    }
    assert_eq!(began.elapsed(), ms(700));
}

#[tokio::test(start_paused = true)]
async fn operations_can_share_a_budget() {
    let mut backoff = PLAIN.with_budget(Budget::Retries(3)).seeded(0);
    let attempts = Cell::new(0);
    for last in [3, 5] {
        let attempt = || {
            attempts.set(attempts.get() + 1);
            std::future::ready(if attempts.get() == 3 { Ok(()) } else { Err(attempts.get()) })
        };
        let result = retry_with(&mut backoff, attempt, |_| Verdict::Retry).await;
        assert_eq!((result.is_ok(), attempts.get()), (last == 3, last));
    }
}

#[test]
fn a_node_that_is_overdue_costs_one_attempt_a_second() {
    let boot = Duration::from_secs(50);
    let due = policies::node_connection(Duration::from_secs(49), boot).seeded(3).skip(20).take(500);
    // An open port is noticed within 250 ms.
    assert!(due.into_iter().all(|delay| (ms(125)..=ms(250)).contains(&delay)));
    let overdue = policies::node_connection(boot, boot).seeded(3).take(500);
    assert!(overdue.into_iter().all(|delay| delay == ms(1000)));
    assert_eq!(policies::api_start(Duration::ZERO).first, ms(125));
    assert_eq!(policies::api_start(policies::USUAL_API_START).first, ms(1000));
}

#[test]
fn the_budget_of_a_step_outlasts_an_outage_of_the_api_and_twelve_refusals() {
    for seed in 0..1000 {
        let delays: Vec<Duration> = policies::STEP.seeded(seed).collect();
        assert!(delays.len() >= 12, "seed {seed}: {} retries", delays.len());
        assert!(delays.iter().sum::<Duration>() > policies::API_OUTAGE_LIMIT, "seed {seed}");
    }
    assert_eq!(policies::NOT_READY.seeded(0).take(2000).last(), Some(ms(1000)));
}
