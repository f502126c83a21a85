//! All providers of secrets behind one call.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;

use futures::{StreamExt, TryStreamExt};
use secrecy::{ExposeSecret, SecretString};

use super::prompt::{Answer, OperatorPrompt};
use super::{Adapters, Connect, Error, Redactor, Reference, adapter, op};
use secret_references::replace;

/// Programs of other managers that run at once.
const LANES: usize = 4;

/// How 1Password is reached.
#[derive(Debug, Clone)]
pub enum OnePassword {
    /// The program `op`, with any of its sign-in methods.
    Program(PathBuf),
    /// A Connect server, by its API.
    Connect(Connect),
    /// Neither `op` nor a Connect server is configured.
    Unavailable,
}

/// Where the values of references come from.
#[derive(Debug, Clone)]
pub struct Sources {
    pub one_password: OnePassword,
    pub adapters: Adapters,
    /// Vaults of 1Password in another account than the one that is signed in, with that account.
    pub accounts: BTreeMap<String, String>,
    /// The repository: where adapters' programs run.
    pub folder: PathBuf,
    /// The variables that paths may name.
    pub variables: BTreeMap<String, String>,
    /// Learns every value.
    pub redactor: Redactor,
    /// Asks the operator to renew a session; none without a terminal.
    pub prompt: Option<OperatorPrompt>,
}

impl Sources {
    /// Fills in every reference of a template. When a session has expired, waits for the operator to renew it where there is
    /// a terminal.
    ///
    /// # Errors
    ///
    /// The first reference that cannot be resolved, with its position; a provider that fails or does not respond.
    pub async fn fill(&self, template: &str) -> Result<SecretString, Error> {
        let mut foreign = self.adapters.references(template);
        let mut values = self.foreign(&foreign).await?;
        for (account, references) in self.by_account(template) {
            values.extend(self.of_account(template, account, &references).await?);
            foreign.extend(references);
        }
        foreign.sort_by_key(|reference| reference.range.start);
        // A resolved value may look like a reference: the other providers see marks in its place.
        let mark = |reference: &Reference| format!("\u{e000}{}\u{e001}", reference.range.start);
        let Ok(marked) = replace(template, &foreign, |reference| Ok::<_, Infallible>(mark(reference)));
        let filled = self.one_password(template, None, &marked).await?;
        let put = |text: String, reference: &Reference| match values.get(&reference.text) {
            Some(value) => text.replace(&mark(reference), value.expose_secret()),
            None => text,
        };
        let text = foreign.iter().fold(filled.expose_secret().to_owned(), put);
        self.redactor.learn_filled(&placeholders(template, &self.adapters), &text);
        Ok(text.into())
    }

    /// The values of other managers' references; each is asked for once.
    async fn foreign(&self, references: &[Reference]) -> Result<BTreeMap<String, SecretString>, Error> {
        let distinct: BTreeMap<&str, &Reference> =
            references.iter().rev().map(|reference| (reference.text.as_str(), reference)).collect();
        let asked: Vec<_> = distinct
            .into_values()
            .map(|reference| async {
                let value = adapter::resolve(&self.adapters, reference, &self.folder).await?;
                self.redactor.learn(&value);
                Ok((reference.text.clone(), value))
            })
            .collect();
        futures::stream::iter(asked).buffered(LANES).try_collect().await
    }

    /// The references of a template to vaults of other accounts. A Connect server knows no accounts.
    fn by_account(&self, template: &str) -> BTreeMap<&str, Vec<Reference>> {
        let mut all: BTreeMap<&str, Vec<Reference>> = BTreeMap::new();
        if matches!(self.one_password, OnePassword::Program(_)) && !self.accounts.is_empty() {
            for reference in op::references(template) {
                if let Some(account) = self.accounts.get(reference.vault()) {
                    all.entry(account).or_default().push(reference);
                }
            }
        }
        all
    }

    /// The values of one account's references, by one call.
    async fn of_account(
        &self,
        template: &str,
        account: &str,
        references: &[Reference],
    ) -> Result<BTreeMap<String, SecretString>, Error> {
        const BETWEEN: char = '\u{e002}';
        let asked = references.iter().map(|reference| format!("{{{{ {} }}}}", reference.text));
        let asked = asked.collect::<Vec<_>>().join(&BETWEEN.to_string());
        let filled = self.one_password(template, Some(account), &asked).await?;
        let values = filled.expose_secret().split(BETWEEN).map(|value| SecretString::from(value.to_owned()));
        let values = references.iter().map(|reference| reference.text.clone()).zip(values);
        Ok(values.inspect(|(_, value)| self.redactor.learn(value)).collect())
    }

    async fn one_password(&self, template: &str, account: Option<&str>, marked: &str) -> Result<SecretString, Error> {
        if op::references(marked).is_empty() {
            return Ok(marked.to_owned().into());
        }
        loop {
            let expired = match &self.one_password {
                OnePassword::Connect(connect) => {
                    self.redactor.learn(connect.token());
                    let filled = connect.inject(marked, &self.variables).await?;
                    filled.values.iter().for_each(|value| self.redactor.learn(value));
                    return Ok(filled.text);
                }
                OnePassword::Program(op) => match op::inject(op, account, marked).await {
                    Err(Error::NotSignedIn(words)) => words,
                    Err(Error::Unresolved { reference, reason }) => {
                        return Err(Error::Unresolved { reference: place(template, reference), reason });
                    }
                    other => return other,
                },
                OnePassword::Unavailable => {
                    let next =
                        "install op, or pass its folder with --tools-dir, or set OP_CONNECT_HOST and OP_CONNECT_TOKEN";
                    return Err(Error::Missing { program: "op".to_owned(), next: next.to_owned() });
                }
            };
            let Some(prompt) = &self.prompt else { return Err(Error::NotSignedIn(expired)) };
            let message = format!(
                "1Password is locked or its session has expired ({expired}): unlock it or sign in, then press Enter; Ctrl-C stops the \
                 run, --resume continues it"
            );
            if prompt.ask(&message).await == Answer::Stopped {
                return Err(Error::NotSignedIn(expired));
            }
        }
    }
}

/// A reference as it stands in the template, found by its text.
fn place(template: &str, reference: Reference) -> Reference {
    let same = op::references(template).into_iter().find(|own| own.text == reference.text);
    same.unwrap_or(reference)
}

/// The template with a placeholder of the right type for each reference, for a rehearsal without secrets.
pub fn placeholders(template: &str, adapters: &Adapters) -> String {
    let mut references = op::references(template);
    references.extend(adapters.references(template));
    references.sort_by_key(|reference| reference.range.start);
    let shaped = |reference: &Reference| {
        Ok::<_, Infallible>(super::placeholders::placeholder(template, reference.line, &reference.text))
    };
    let Ok(filled) = replace(template, &references, shaped);
    filled
}
