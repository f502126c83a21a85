//! The operator at the terminal, who can be asked.

use std::io::{BufReader, IsTerminal};
use std::sync::{Arc, LazyLock};

use engine::{Event, StopSignal, Subscriber};
use futures::FutureExt;
use secrets::Person;

use super::args::Output;
use super::output::say;

/// The operator at the terminal; none when events go to a program, or without a terminal.
pub(super) fn operator(output: Output) -> Option<Person> {
    static OPERATOR: LazyLock<Person> =
        LazyLock::new(|| Person::new(say, BufReader::new(std::io::stdin()), || std::future::pending().boxed()));
    let there = output == Output::Text && std::io::stderr().is_terminal() && std::io::stdin().is_terminal();
    there.then(|| OPERATOR.clone())
}

/// The operator at the terminal during a run: questions appear between its lines, and a stop ends them.
pub(super) fn operator_of_run(output: Output, subscriber: &Arc<dyn Subscriber>, stop: &StopSignal) -> Option<Person> {
    let (subscriber, stop) = (subscriber.clone(), stop.clone());
    let say = move |text: &str| subscriber.notice(&Event::aside(text));
    let stopped = move || {
        let stop = stop.clone();
        async move { stop.asked().await }.boxed()
    };
    operator(output).map(|person| person.through(say, stopped))
}
