//! The command line: arguments, runtimes, exit codes.

#[path = "main/check.rs"]
mod check;
#[path = "main/fleet.rs"]
mod fleet;
#[path = "main/sixpn.rs"]
mod sixpn;
#[path = "main/transaction.rs"]
mod transaction;

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use edgeproxy::admin::client::Client;
use edgeproxy::admin::follow::{self, Wanted};
use edgeproxy::admin::routes::choice;
use edgeproxy::admin::{AdminError, Connections, Explanation, Status, Told, query, screen};
use edgeproxy::config::diff::diff;
use edgeproxy::config::duration;
use edgeproxy::config::environment::Environment;
use edgeproxy::config::generation::begin;
use edgeproxy::config::load::{LoadError, load};
use edgeproxy::observe::status::backhaul::BackhaulStatus;
use edgeproxy::observe::status::choice::ChoiceStatus;
use edgeproxy::observe::status::fleet::FleetStatus;
use edgeproxy::observe::status::traffic::ProxyStatus;
use edgeproxy::observe::status::{NeighborStatus, ServiceStatus};
use serde::Serialize;
use serde_json::json;

/// Connections come and go by the thousand a second; see `Cargo.toml` for what this saves.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Where state is kept unless somebody says otherwise (FHS 3.0 §5.8).
const STATE: &str = "/var/lib/edgeproxy";

/// Announces an anycast prefix over BGP exactly as long as this machine can serve it.
///
/// Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 64 bad configuration (also a file that
/// cannot be read).
#[derive(Debug, Parser)]
#[command(name = "edgeproxy", version, max_term_width = 100)]
struct Arguments {
    /// Answer with JSON.
    #[arg(long, global = true)]
    json: bool,
    /// The running process's socket [default: $EDGEPROXY_SOCKET, or /run/edgeproxy/edgeproxy.sock].
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run with a configuration until SIGTERM; SIGHUP reads it again.
    Run {
        #[arg(default_value = "/etc/edgeproxy/edgeproxy.yaml")]
        file: PathBuf,
        /// Where is kept what a restart must not forget [default: $EDGEPROXY_STATE, or $STATE_DIRECTORY
        /// of systemd, or /var/lib/edgeproxy].
        #[arg(long, value_name = "DIRECTORY")]
        state: Option<PathBuf>,
    },
    /// Say whether a configuration is good, and everything that is wrong with it.
    Check { file: PathBuf },
    /// Say what a configuration would change: against another, or against the running process.
    #[command(override_usage = "edgeproxy diff [OPTIONS] [OLD] <NEW>")]
    Diff {
        #[arg(required = true, num_args = 1..=2, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Show the process, its prefixes, neighbors and services on one screen.
    Status,
    /// Show the BGP sessions.
    Neighbors,
    /// Show each service with its backends as their checks see them.
    Health { service: Option<String> },
    /// Show where clients come in, and what each backend carries.
    Backends { service: Option<String> },
    /// Show the private network between POPs: who carries packets, and the link to each peer.
    Backhaul,
    /// Show open connections, the oldest first.
    Connections {
        /// Only those of this service.
        #[arg(long)]
        service: Option<String>,
        /// Only those of this client's address.
        #[arg(long)]
        client: Option<IpAddr>,
        /// At most so many, 10000 at most.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Say why a prefix is announced or not; or where a service would take a client now, and why not elsewhere.
    #[command(override_usage = "edgeproxy explain [OPTIONS] <PREFIX>\n       \
        edgeproxy explain [OPTIONS] --client <ADDRESS> --service <SERVICE>")]
    Explain {
        /// A prefix, or an address in it: why it is announced or not, and what would change that.
        #[arg(required_unless_present_any = ["client", "service"], conflicts_with_all = ["client", "service"])]
        prefix: Option<String>,
        /// A client's address: where it would be taken now.
        #[arg(long, value_name = "ADDRESS", requires = "service", value_parser = choice::address)]
        client: Option<IpAddr>,
        /// The service that the client wants.
        #[arg(long, requires = "client")]
        service: Option<String>,
    },
    /// Show what happened: verdicts, decisions, what neighbors were sent, and what operators did.
    Events {
        /// Go on with what comes, until Ctrl-C.
        #[arg(long, short)]
        follow: bool,
        /// Only what concerns this prefix (or the prefix around an address), with its causes.
        #[arg(long)]
        prefix: Option<String>,
        /// How many of the past, at most 1000.
        #[arg(long, value_name = "N", default_value_t = 50)]
        last: u64,
    },
    /// Read the configuration again and apply it whole, or refuse it whole.
    Reload,
    /// Take traffic away from a prefix, gently: de-prefer it, wait until its traffic is gone or the
    /// deadline, withdraw it, close what is left. Survives a restart; `undrain` takes it back.
    Drain {
        /// A prefix, or an address in it, or `all`.
        #[arg(default_value = "all")]
        prefix: String,
        /// Withdraw after this at the latest, such as 5m [default: that of the configuration].
        #[arg(long, value_parser = duration::parse)]
        deadline: Option<Duration>,
        /// Shown wherever the drain is.
        #[arg(long, default_value = "")]
        reason: String,
        /// Drain it even if the fleet needs it announced: without a permit of the voters, and if nobody else is left.
        #[arg(long)]
        force: bool,
    },
    /// Take a drain back, at any step of it.
    Undrain {
        #[arg(default_value = "all")]
        prefix: String,
    },
    /// Say what a configuration would do to every prefix and neighbor, and whether it would be refused.
    Plan { file: PathBuf },
    /// Put a configuration in force: for good, or until its time to be confirmed is over.
    Apply {
        file: PathBuf,
        /// Undo it by itself after this time (1s to 24h) unless `edgeproxy confirm` comes.
        #[arg(long, value_name = "TIME", value_parser = transaction::confirm_within)]
        confirm_within: Option<Duration>,
        /// Prefixes may go dark.
        #[arg(long)]
        allow_withdraw: bool,
    },
    /// Keep the configuration that waits for its confirmation.
    Confirm,
    /// End what waits for its confirmation; otherwise go back to a generation that was confirmed.
    Rollback {
        /// Default: the newest that is older than the one in force.
        generation: Option<u64>,
        /// Prefixes may go dark.
        #[arg(long)]
        allow_withdraw: bool,
    },
    /// The addresses inside the backhaul, and this POP's key.
    #[command(subcommand)]
    Sixpn(sixpn::Sixpn),
    /// Show the fleet: who is there, and who lacks what. Or make a POP a part of it.
    #[command(args_conflicts_with_subcommands = true)]
    Fleet {
        #[command(subcommand)]
        command: Option<fleet::Fleet>,
    },
    /// Write a completion script for a shell.
    Completions { shell: clap_complete::Shell },
}

/// Why a command was not done.
enum Failure {
    /// Bad configuration: words for people, problems for machines.
    Configuration {
        text: String,
        problems: serde_json::Value,
    },
    Refused(String),
    /// The answer that was asked for is that it would be refused, with all the rest.
    Answered(String),
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let text = error.to_string();
        let problems = match &error {
            LoadError::Unreadable { .. } | LoadError::Unsigned { .. } => json!([{ "message": text }]),
            LoadError::Invalid(problems) => json!(problems.list()),
        };
        Self::Configuration { text, problems }
    }
}

fn main() -> ExitCode {
    edgeproxy::proxy::tls::provider::install();
    let arguments = Arguments::parse();
    let json = arguments.json;
    match obey(arguments) {
        Ok(answer) => {
            // A reader that left early (`| head`) has what it wanted.
            let _ = io::stdout().write_all(answer.as_bytes());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let (code, text, document) = match failure {
                // As `file:line:column: words`, which editors follow.
                Failure::Configuration { text, problems } => {
                    (64, text, json!({ "error": "bad configuration", "problems": problems }))
                }
                Failure::Refused(text) => (1, format!("edgeproxy: {text}"), json!({ "error": text })),
                Failure::Answered(answer) => {
                    let _ = io::stdout().write_all(answer.as_bytes());
                    return ExitCode::FAILURE;
                }
            };
            let _ = if json {
                writeln!(io::stdout(), "{document:#}")
            } else {
                writeln!(io::stderr(), "{}", text.trim_end())
            };
            ExitCode::from(code)
        }
    }
}

/// Does what the arguments say; what it gives goes to standard output.
fn obey(arguments: Arguments) -> Result<String, Failure> {
    let Arguments { json, socket, command } = arguments;
    if socket.is_some() && matches!(command, Command::Run { .. }) {
        let why =
            "`run` listens where its configuration says (admin.socket); --socket is for asking it later";
        Arguments::command().error(ErrorKind::ArgumentConflict, why).exit();
    }
    let environment = Environment::read();
    let socket = socket
        .or_else(|| environment.admin_socket.clone())
        .unwrap_or_else(|| edgeproxy::config::admin::Admin::default().socket);
    let client = Client::new(socket);
    match command {
        Command::Run { file, state } => run(&file, state, environment),
        Command::Check { file } => check::check(&file, json),
        Command::Diff { files } => match &files[..] {
            [old, new] => {
                let diff = diff(&load(old)?, &load(new)?);
                Ok(if json { line(&diff) } else { format!("{}\n", diff.to_string().trim_end()) })
            }
            [new, ..] => ask(transaction::diff(&client, new, json)),
            [] => Err(Failure::Refused("name the new configuration".to_owned())),
        },
        Command::Status => ask(show(&client, "/v1/status", json, |status: Status| screen::status(&status))),
        Command::Neighbors => {
            ask(show(&client, "/v1/neighbors", json, |neighbors: Vec<Arc<NeighborStatus>>| {
                screen::neighbors(&neighbors)
            }))
        }
        Command::Health { service } => ask(health(&client, service, json)),
        Command::Backends { service } => ask(show(&client, "/v1/backends", json, |proxy: ProxyStatus| {
            screen::backends(&proxy, service.as_deref())
        })),
        Command::Backhaul => {
            ask(show(&client, "/v1/backhaul", json, |it: BackhaulStatus| screen::backhaul(&it)))
        }
        Command::Fleet { command: None } => {
            ask(show(&client, "/v1/fleet", json, |it: FleetStatus| screen::fleet(&it)))
        }
        Command::Fleet { command: Some(fleet::Fleet::Note { text }) } => {
            let target = format!("/v1/fleet/note?text={}", query::encode(&text.unwrap_or_default()));
            ask(tell(&client, &target, String::new(), json))
        }
        Command::Fleet { command: Some(command) } => {
            let state = environment.state.unwrap_or_else(|| STATE.into());
            fleet::obey(command, &state, json)
        }
        Command::Connections { service, client: from, limit } => {
            let mut target = format!("/v1/connections?limit={limit}");
            if let Some(service) = service {
                target += &format!("&service={}", query::encode(&service));
            }
            if let Some(from) = from {
                target += &format!("&client={}", query::encode(&from.to_string()));
            }
            ask(show(&client, &target, json, |answer: Connections| screen::connections(&answer)))
        }
        Command::Explain { client: Some(from), service: Some(service), .. } => {
            let (from, service) = (query::encode(&from.to_string()), query::encode(&service));
            let target = format!("/v1/explain?client={from}&service={service}");
            ask(show(&client, &target, json, |choice: ChoiceStatus| screen::choice(&choice)))
        }
        Command::Explain { prefix, .. } => {
            let prefix = prefix.unwrap_or_default();
            let target = format!("/v1/explain?prefix={}", query::encode(&prefix));
            ask(show(&client, &target, json, |explanation: Explanation| screen::explain(&explanation)))
        }
        Command::Events { follow, prefix, last } => {
            let wanted = Wanted { prefix, last, follow, json };
            ask(async {
                follow::tell(&client, &wanted, &mut io::stdout(), &mut io::stderr()).await?;
                Ok(String::new())
            })
        }
        Command::Reload => ask(tell(&client, "/v1/reload", String::new(), json)),
        Command::Drain { prefix, deadline, reason, force } => {
            let mut target =
                format!("/v1/drain?prefix={}&reason={}", query::encode(&prefix), query::encode(&reason));
            if let Some(deadline) = deadline {
                target += &format!("&deadline_ms={}", deadline.as_millis());
            }
            if force {
                target += "&force=true";
            }
            ask(tell(&client, &target, String::new(), json))
        }
        Command::Undrain { prefix } => {
            let target = format!("/v1/undrain?prefix={}", query::encode(&prefix));
            ask(tell(&client, &target, String::new(), json))
        }
        Command::Plan { file } => ask(transaction::plan(&client, &file, json)),
        Command::Apply { file, confirm_within, allow_withdraw } => {
            ask(transaction::apply(&client, &file, confirm_within, allow_withdraw, json))
        }
        Command::Confirm => ask(tell(&client, "/v1/confirm", String::new(), json)),
        Command::Rollback { generation, allow_withdraw } => {
            let target = transaction::rollback(generation, allow_withdraw);
            ask(tell(&client, &target, String::new(), json))
        }
        Command::Sixpn(command) => sixpn::obey(command, json),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "edgeproxy", &mut script);
            Ok(String::from_utf8_lossy(&script).into_owned())
        }
    }
}

fn run(file: &Path, state: Option<PathBuf>, environment: Environment) -> Result<String, Failure> {
    let state = state.or_else(|| environment.state.clone()).unwrap_or_else(|| STATE.into());
    let beginning = begin(file, &state)?;
    let refused = |error: &dyn std::fmt::Display| Failure::Refused(error.to_string());
    // Operators and reloads only: BGP with the decision, and the checks, have threads of their own.
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| refused(&error))?;
    control
        .block_on(edgeproxy::appliance::run(beginning, file.to_owned(), state, environment))
        .map_err(|error| refused(&error))?;
    Ok(String::new())
}

/// The answer as it came, or as a screen.
async fn show<T: serde::de::DeserializeOwned>(
    client: &Client,
    target: &str,
    json: bool,
    screen: impl FnOnce(T) -> String,
) -> Result<String, Failure> {
    let answer = client.get(target).await?;
    if json { Ok(answer) } else { Ok(screen(client.read(&answer)?)) }
}

async fn health(client: &Client, wanted: Option<String>, json: bool) -> Result<String, Failure> {
    let answer = client.get("/v1/services").await?;
    let mut services: Vec<ServiceStatus> = client.read(&answer)?;
    if let Some(wanted) = wanted {
        let known: Vec<_> = services.iter().map(|service| service.service.clone()).collect();
        services.retain(|service| service.service == wanted);
        if services.is_empty() {
            let known = known.join(", ");
            return Err(Failure::Refused(format!("there is no service {wanted}; there are: {known}")));
        }
    }
    Ok(if json { line(&services) } else { screen::health(&services) })
}

/// What the process answers to a command.
async fn tell(client: &Client, target: &str, body: String, json: bool) -> Result<String, Failure> {
    let answer = client.post(target, body).await?;
    let told: Told = client.read(&answer)?;
    Ok(if json { line(&told.document) } else { format!("{}\n", told.text.trim_end()) })
}

/// Runs one conversation with the process.
fn ask(conversation: impl Future<Output = Result<String, Failure>>) -> Result<String, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Refused(format!("no runtime: {error}")))?;
    runtime.block_on(conversation)
}

fn line<T: Serialize>(document: &T) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default() + "\n"
}
