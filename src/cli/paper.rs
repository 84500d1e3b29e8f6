//! `ticketgate man` and `ticketgate completions`, from the same lines as `--help`.

use std::path::Path;

use clap::CommandFactory;

use super::CliError;
use super::args::Cli;
use super::output::Output;

pub(super) fn man(to: Option<&Path>, out: &mut Output) -> Result<(), CliError> {
    let command = Cli::command();
    let failed =
        |error: std::io::Error| CliError::new(format!("the pages cannot be written ({error})"), "check where they go");
    if let Some(dir) = to {
        std::fs::create_dir_all(dir).map_err(failed)?;
        return clap_mangen::generate_to(command, dir).map_err(failed);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(failed)?;
    out.bytes(&page)?;
    out.flush()
}

pub(super) fn completions(shell: clap_complete::Shell, out: &mut Output) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ticketgate", &mut script);
    out.bytes(&script)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
