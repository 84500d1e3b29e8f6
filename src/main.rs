//! The `ticketgate` command: arguments, logging, and then the daemon or a client command.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use ticketgate::cli::demo::Afterwards;
use ticketgate::cli::{self, Cli, CliError, Command};
use ticketgate::config::Config;
use ticketgate::{gateway, logging, memory};
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    memory::keep_little();
    let Cli { reach, mut command } = Cli::parse();
    if let Command::Fsck(fsck) = &mut command {
        fsck.config.clone_from(&reach.config);
    }
    let ended = match command {
        Command::Run {} => run(reach.config.as_deref()),
        Command::Demo { stay } => demo(if stay { Afterwards::Stay } else { Afterwards::Stop }),
        other => return client(cli::execute(other, &reach)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ticketgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the daemon until it is told to stop.
fn run(file: Option<&Path>) -> anyhow::Result<()> {
    let config = Config::load(file).map_err(|faults| anyhow::anyhow!("the configuration has faults\n{faults}"))?;
    let level = logging::start(&config.log).map_err(anyhow::Error::msg).context("logging cannot be started")?;
    let runtime = runtime()?;
    let ended = runtime.block_on(gateway::run(config, file.map(Path::to_owned), level));
    // What still runs was left behind on purpose; it must not hold the process up.
    runtime.shutdown_background();
    // Our errors say their cause themselves; as a chain they would say it twice.
    ended.map_err(|error| anyhow::anyhow!("{error}"))
}

/// Shows on real mail what the daemon does.
fn demo(afterwards: Afterwards) -> anyhow::Result<()> {
    // Only what goes wrong is of interest here; the demo tells the rest itself.
    let quiet = logging::Config { level: "warn".into(), ..logging::Config::default() };
    logging::start(&quiet).map_err(anyhow::Error::msg).context("logging cannot be started")?;
    let runtime = runtime()?;
    let ended = cli::demo::demo(&runtime, afterwards);
    runtime.shutdown_background();
    Ok(ended?)
}

/// The runtime of the daemon. It needs few threads: what takes long runs on threads of its own.
fn runtime() -> anyhow::Result<Runtime> {
    memory::give_back().context("the thread that gives memory back cannot be started")?;
    Builder::new_multi_thread().enable_all().thread_name("gateway").build().context("the runtime cannot be started")
}

fn client(ended: Result<(), CliError>) -> ExitCode {
    match ended {
        Ok(()) | Err(CliError::NobodyReads) => ExitCode::SUCCESS,
        Err(CliError::Told) => ExitCode::FAILURE,
        Err(CliError::Failed(said)) => {
            eprintln!("ticketgate: {said}");
            ExitCode::FAILURE
        }
    }
}
