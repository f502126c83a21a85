//! The operator at the terminal, who can be asked.

use std::io::{BufReader, IsTerminal};
use std::sync::{Arc, LazyLock};

use engine::{Event, StopSignal, Subscriber};
use futures::FutureExt;
use secrets::OperatorPrompt;

use super::args::Output;
use super::output::print_note;

/// Asks the operator at the terminal; none for JSON output or without a terminal.
pub(super) fn operator_prompt(output: Output) -> Option<OperatorPrompt> {
    static PROMPT: LazyLock<OperatorPrompt> = LazyLock::new(|| {
        OperatorPrompt::new(print_note, BufReader::new(std::io::stdin()), || std::future::pending().boxed())
    });
    let there = output == Output::Text && std::io::stderr().is_terminal() && std::io::stdin().is_terminal();
    there.then(|| PROMPT.clone())
}

/// The same during a run: the question is one of its events, and the run's stop signal ends the wait.
pub(super) fn operator_prompt_of_run(
    output: Output,
    subscriber: &Arc<dyn Subscriber>,
    stop: &StopSignal,
) -> Option<OperatorPrompt> {
    let (subscriber, stop) = (subscriber.clone(), stop.clone());
    let say = move |text: &str| subscriber.notice(&Event::notice(text));
    let stopped = move || {
        let stop = stop.clone();
        async move { stop.requested().await }.boxed()
    };
    operator_prompt(output).map(|prompt| prompt.through(say, stopped))
}
