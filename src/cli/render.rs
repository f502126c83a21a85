//! `k8s-bootstrap render CLUSTER [NODE]`: machine configs as they would be applied, secrets masked.

use std::io::IsTerminal;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::args::{Common, Output, RenderArgs, SecretsArg};
use super::exit::{Exit, Refusal};
use super::setup;
use super::setup::Place;
use super::{inputs, output};
use bootstrap::client_identity;
use repository::Cluster;
use secrets::Redactor;
use talos_client::Client;
use talos_config::{AdminIdentity, InventoryNode, RenderedConfig, SecretsBundle};
use talos_schema::{Documents, parse_documents};
use yaml::Origin;

pub(super) async fn render(common: &Common, args: RenderArgs) -> Result<Exit, Refusal> {
    if args.show_secrets {
        ask(&args.cluster)?;
    }
    let redactor = Redactor::default();
    let (place, secrets) =
        if args.lab { (Place::Lab, SecretsArg::Placeholder) } else { (Place::Field, SecretsArg::Real) };
    let cluster = inputs::cluster(common, &args.cluster, secrets, &redactor).await?;
    inputs::warn(&cluster, &redactor);
    let bundle = setup::bundle(common, &cluster, place, secrets, &redactor).await?;
    inputs::warn_idle(&cluster, &bundle, &redactor);
    let mask = |text: &str| if args.show_secrets { text.to_owned() } else { redactor.redact(text) };
    let mut shown = Vec::new();
    for node in nodes(&cluster, args.node.as_deref())? {
        let rendered = cluster.inputs.config(&bundle, node)?;
        learn(&redactor, &rendered.documents);
        shown.push(if args.view.diff {
            let running = running(common, &cluster, place, &bundle, node).await?;
            learn(&redactor, &running);
            difference(node, &running, &rendered.documents)
        } else if args.view.explain {
            explained(node, &rendered, common.output, &mask)
        } else {
            format!("# {}\n---\n{}", node.hostname, rendered.documents.to_yaml())
        });
    }
    let differs = args.view.diff && shown.iter().any(|text| !text.is_empty());
    for text in shown.iter().filter(|text| !text.is_empty()) {
        output::data(&mask(text));
    }
    Ok(if differs { Exit::Changes } else { Exit::Done })
}

/// Secrets on a screen are seen, and in a file they stay.
fn ask(cluster: &str) -> Result<(), Refusal> {
    let refused = |why: &str| {
        Refusal::input(format!("--show-secrets prints the private keys of `{cluster}`; {why}"))
            .hint("leave it out to see everything else")
    };
    if !std::io::stdin().is_terminal() {
        return Err(refused("there is nobody at a terminal to be asked"));
    }
    output::say(&format!("This prints the private keys of `{cluster}`. Type its name to go on:"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| refused(&error.to_string()))?;
    if answer.trim() == cluster { Ok(()) } else { Err(refused("that was not its name")) }
}

fn nodes<'c>(cluster: &'c Cluster, wanted: Option<&str>) -> Result<Vec<&'c InventoryNode>, Refusal> {
    let all = &cluster.inventory.nodes;
    let is = |node: &&InventoryNode| {
        wanted.is_none_or(|wanted| node.hostname == wanted || node.address.to_string() == wanted)
    };
    let found: Vec<&InventoryNode> = all.iter().filter(is).collect();
    if found.is_empty() {
        let known: Vec<&str> = all.iter().map(|node| node.hostname.as_str()).collect();
        let node = wanted.unwrap_or_default();
        return Err(
            Refusal::input(format!("there is no node `{node}`")).hint(format!("there are: {}", known.join(", ")))
        );
    }
    Ok(found)
}

/// Fields of machine configs that hold secrets, whatever document they are in.
const SECRET: [&str; 12] = [
    "aescbcEncryptionSecret",
    "apiToken",
    "auth",
    "identityToken",
    "key",
    "passphrase",
    "password",
    "presharedKey",
    "privateKey",
    "secret",
    "secretboxEncryptionSecret",
    "token",
];

fn learn(redactor: &Redactor, documents: &Documents) {
    documents.0.iter().for_each(|document| learn_value(redactor, document));
}

fn learn_value(redactor: &Redactor, value: &Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if SECRET.contains(&key.as_str()) => {
                        redactor.learn(&SecretString::from(text.as_str()));
                    }
                    other => learn_value(redactor, other),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| learn_value(redactor, item)),
        _ => {}
    }
}

/// Certificates are longer than any line.
const WIDEST: usize = 120;

/// Each field with the layer that set it.
fn explained(node: &InventoryNode, rendered: &RenderedConfig, output: Output, mask: &dyn Fn(&str) -> String) -> String {
    let fields = rendered.explain();
    if matches!(output, Output::Json) {
        let fields: Vec<Value> = fields
            .iter()
            .map(|field| {
                let at = field.setter.at.as_ref().map(ToString::to_string);
                json!({"document": field.document, "path": field.path, "value": field.value,
                       "layer": field.setter.layer, "at": at})
            })
            .collect();
        return json!({"node": node.hostname, "fields": fields}).to_string();
    }
    let mut lines = vec![format!("# {}", node.hostname)];
    let mut document = String::new();
    for field in fields {
        if field.document != document {
            document.clone_from(&field.document);
            lines.push(format!("--- {document}"));
        }
        let text = mask(&format!("{}: {}", field.path, field.value));
        let short: String = text.chars().take(WIDEST).collect();
        let more = if short.len() < text.len() { "…" } else { "" };
        lines.push(format!("{:<60}  # {}", format!("{short}{more}"), field.setter));
    }
    lines.join("\n")
}

/// The config that a node runs.
async fn running(
    common: &Common,
    cluster: &Cluster,
    place: Place,
    bundle: &SecretsBundle,
    node: &InventoryNode,
) -> Result<Documents, Refusal> {
    let dialer = setup::dialer(common, &cluster.name, place)?;
    let admin = AdminIdentity::issue(bundle, Timestamp::now()).map_err(|error| Refusal::world(error.to_string()))?;
    let unreachable = |error: talos_client::ClientError| {
        Refusal::world(format!("node `{}` ({}) does not tell its config: {error}", node.hostname, node.address))
            .hint("a node that is not configured yet runs no config; leave --diff out, or name another node")
    };
    let client = Client::connect(&dialer, node.address, &client_identity(&admin)).await.map_err(unreachable)?;
    let text = client.machine_config().await.map_err(unreachable)?;
    // The reader's message may quote the text, which holds secrets.
    parse_documents(&Origin::new("<running config>"), text.expose_secret())
        .map_err(|_| Refusal::world(format!("the config that node `{}` runs cannot be read", node.hostname)))
}

/// From what runs to what would be applied, as a diff of data: keys in one order, documents matched by their kinds.
fn difference(node: &InventoryNode, running: &Documents, ours: &Documents) -> String {
    let ours = parse_documents(&Origin::new("<rendered>"), &ours.to_yaml()).unwrap_or_else(|_| ours.clone());
    let (before, after) = (comparable(running), comparable(&ours));
    let diff = similar::TextDiff::from_lines(&before, &after);
    if before == after {
        return String::new();
    }
    let (from, to) = (format!("{} (running)", node.hostname), format!("{} (rendered)", node.hostname));
    diff.unified_diff().context_radius(3).header(&from, &to).to_string()
}

fn comparable(documents: &Documents) -> String {
    let mut documents: Vec<Value> = documents.0.iter().map(sorted).collect();
    let name = |document: &Value| {
        let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        (text("kind"), text("name"))
    };
    documents.sort_by_key(name);
    let texts: Vec<String> = documents.iter().map(|document| yaml::to_string(document).unwrap_or_default()).collect();
    texts.join("---\n")
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
