//! The manual pages, and the reference as Markdown.

use std::{fmt::Write as _, path::PathBuf};

use clap::{Args, CommandFactory as _};

use crate::{
    cli::{Cli, Global},
    error::{CliError, Result},
    output::{Form, Output},
};

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Folder to write the pages to, one for each command. Default: only the first page, to stdout.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(&self, global: &Global) -> Result<()> {
        let mut command = Cli::command();
        command.build();
        let Some(folder) = &self.folder else {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            // In any form of output: it is for `man`.
            return Output::default().text(String::from_utf8_lossy(&page));
        };
        let failed =
            |error: std::io::Error| CliError::failure(format!("cannot write to {}: {error}", folder.display()));
        std::fs::create_dir_all(folder).map_err(failed)?;
        clap_mangen::generate_to(command, folder).map_err(failed)?;
        global.out().text(format!("manual pages are in {}\n", folder.display()))
    }
}

/// Prints the reference of all commands, which `docs/cli.md` contains.
pub(crate) fn markdown(global: &Global) -> Result<()> {
    if global.output != Form::Table {
        return Err(CliError::usage("the reference has one form, Markdown"));
    }
    let mut command = Cli::command();
    command.build();
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = reference(&mut text, &command, 2);
    global.out().text(text)
}

/// Writes a command with those below it.
fn reference(text: &mut String, command: &clap::Command, level: usize) -> std::fmt::Result {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    writeln!(text, "{} `{name}`\n", "#".repeat(level.min(4)))?;
    if let Some(about) = command.get_about() {
        writeln!(text, "{about}.\n")?;
    }
    let aliases: Vec<String> = command
        .get_visible_aliases()
        .map(|alias| format!("`{alias}`"))
        .collect();
    if !aliases.is_empty() {
        writeln!(text, "Also called {}.\n", aliases.join(", "))?;
    }
    let usage = command.clone().render_usage().to_string();
    writeln!(text, "```text\n{}\n```\n", usage.trim_start_matches("Usage: "))?;
    let is_top = level == 2;
    let shown = |arg: &&clap::Arg| {
        let is_help = ["help", "version"].contains(&arg.get_id().as_str());
        !arg.is_hide_set() && !is_help && (is_top || !arg.is_global_set())
    };
    let rows: Vec<&clap::Arg> = command.get_arguments().filter(shown).collect();
    if !rows.is_empty() {
        writeln!(text, "| | |\n| --- | --- |")?;
        for arg in rows {
            writeln!(text, "| {} | {} |", flag(arg), described(arg))?;
        }
        writeln!(text)?;
    }
    if let Some(help) = command.get_after_help() {
        writeln!(text, "```text\n{help}\n```\n")?;
    }
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        reference(text, below, level + 1)?;
    }
    Ok(())
}

/// An argument as it is written on the command line.
fn flag(arg: &clap::Arg) -> String {
    let takes_value = arg.get_action().takes_values();
    let names = arg.get_value_names().unwrap_or_default();
    let value = names
        .iter()
        .map(|name| format!("<{name}>"))
        .collect::<Vec<_>>()
        .join(" ");
    let mut forms: Vec<String> = arg.get_short().map(|short| format!("-{short}")).into_iter().collect();
    forms.extend(arg.get_long().map(|long| format!("--{long}")));
    if forms.is_empty() {
        return format!("`{value}`");
    }
    let value = if takes_value {
        format!(" {value}")
    } else {
        String::new()
    };
    format!("`{}{value}`", forms.join("`, `"))
}

/// Returns the meaning of an argument, its values and its default.
fn described(arg: &clap::Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let mut text = help.replace('\n', " ").replace('|', "\\|");
    // The parser takes the full stop away.
    if !text.is_empty() && !text.ends_with(['.', '!', '?']) {
        text.push('.');
    }
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|_| arg.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !values.is_empty() {
        text += &format!(" One of {}.", values.join(", "));
    }
    let defaults: Vec<&str> = arg
        .get_default_values()
        .iter()
        .filter_map(|value| value.to_str())
        .collect();
    if !defaults.is_empty() && arg.get_action().takes_values() {
        text += &format!(" Default: `{}`.", defaults.join(" "));
    }
    if let Some(variable) = arg.get_env().and_then(|variable| variable.to_str()) {
        text += &format!(" Environment: `{variable}`.");
    }
    text
}
