//! `kafka-sse-bridge generate`: man pages and shell completions, from the definitions of the commands and the
//! documentation, so that they agree with the program.
//!
//! A hidden command for packaging; its output is not in the repository. [`markdown`] converts the documentation.
#![forbid(unsafe_code)]

mod markdown;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

const PROGRAM: &str = env!("CARGO_PKG_NAME");
const CONFIGURATION: &str = include_str!("../../../docs/configuration.md");
const OPERATIONS: &str = include_str!("../../../docs/operations.md");

/// Title of the page about the configuration file.
const FILE_PAGE: &str = "kafka-sse-bridge.toml";

/// The date of a page: empty, for reproducible pages, and quoted, because roff drops an empty argument.
const NO_DATE: &str = "\"\"";

/// Sections of the operations guide that are part of the program's page.
const OPERATIONS_IN_PAGE: [&str; 4] = ["Signals", "Exit codes", "Files", "Environment"];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The directory to use as /usr.
    directory: PathBuf,
}

/// Writes pages and completions below `share`, where the tools expect them.
pub(crate) fn generate(options: &Options, commands: &Command) -> io::Result<()> {
    let share = options.directory.join("share");
    let commands = visible(commands);
    pages(&share, &commands)?;
    completions(&share, commands)
}

/// The commands without hidden ones, which completions would offer.
fn visible(commands: &Command) -> Command {
    Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .about(commands.get_about().cloned().unwrap_or_default())
        .subcommands(
            commands
                .get_subcommands()
                .filter(|command| !command.is_hide_set())
                .cloned(),
        )
        .subcommand_required(true)
        .subcommand_value_name("COMMAND")
        .subcommand_help_heading("COMMANDS")
        .propagate_version(true)
}

fn pages(share: &Path, commands: &Command) -> io::Result<()> {
    let directory = share.join("man/man1");
    fs::create_dir_all(&directory)?;
    let mut program = commands.clone().disable_help_subcommand(true);
    program.build();
    let titles: Vec<String> = program
        .get_subcommands()
        .map(|command| format!("{PROGRAM}-{}", command.get_name()))
        .collect();
    for command in program.get_subcommands() {
        let mut more = Roff::new();
        see_also(&mut more, &[(PROGRAM, "1"), (FILE_PAGE, "5")]);
        command_page(&directory, command.clone(), &more)?;
    }
    let mut more = Roff::new();
    markdown::sections(&mut more, OPERATIONS, |title| OPERATIONS_IN_PAGE.contains(&title));
    let others = titles.iter().map(|title| (title.as_str(), "1"));
    see_also(&mut more, &others.chain([(FILE_PAGE, "5")]).collect::<Vec<_>>());
    command_page(&directory, program, &more)?;

    let directory = share.join("man/man5");
    fs::create_dir_all(&directory)?;
    let mut page = Roff::new();
    let source = format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION"));
    page.control("TH", [FILE_PAGE, "5", NO_DATE, &source, "File Formats"]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{FILE_PAGE} - configuration of {PROGRAM}"))]);
    page.control("SH", ["DESCRIPTION"]);
    markdown::opening(&mut page, CONFIGURATION);
    markdown::sections(&mut page, CONFIGURATION, |_| true);
    see_also(&mut page, &[(PROGRAM, "1")]);
    page.to_writer(&mut File::create(directory.join(format!("{FILE_PAGE}.5")))?)
}

/// A page of section 1: the definition of the command, and `more`.
fn command_page(directory: &Path, command: Command, more: &Roff) -> io::Result<()> {
    let man = Man::new(command)
        .date(NO_DATE)
        .source(format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION")))
        .manual("User Commands");
    let mut out = File::create(directory.join(man.get_filename()))?;
    man.render(&mut out)?;
    more.to_writer(&mut out)
}

fn see_also(roff: &mut Roff, pages: &[(&str, &str)]) {
    roff.control("SH", ["SEE ALSO"]);
    for (index, (title, section)) in pages.iter().enumerate() {
        let comma = if index + 1 == pages.len() { "" } else { "," };
        roff.text([bold(*title), roman(format!("({section}){comma}"))]);
    }
}

fn completions(share: &Path, mut commands: Command) -> io::Result<()> {
    let shells = [
        (Shell::Bash, "bash-completion/completions/kafka-sse-bridge"),
        (Shell::Zsh, "zsh/site-functions/_kafka-sse-bridge"),
        (Shell::Fish, "fish/vendor_completions.d/kafka-sse-bridge.fish"),
    ];
    for (shell, path) in shells {
        let path = share.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        clap_complete::generate(shell, &mut commands, PROGRAM, &mut File::create(path)?);
    }
    Ok(())
}
