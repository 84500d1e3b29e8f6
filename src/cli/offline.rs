//! `ticketgate check` and `ticketgate fsck`: they read files, and no daemon is asked.

use std::path::Path;

use serde_json::json;

use super::CliError;
use super::args::Fsck;
use super::output::Output;
use crate::config::{Config, DEFAULT_FILE};
use crate::store::Depth;
use crate::store::fsck::offline;
use crate::units::count;

pub(super) fn check(file: Option<&Path>, out: &mut Output) -> Result<(), CliError> {
    let file = file.map(Path::to_owned).or_else(usual_file);
    let name = file.as_deref().map_or_else(|| "built-in defaults".into(), |file| file.display().to_string());
    match Config::load(file.as_deref()) {
        Ok(config) => {
            let (channels, queues) = (config.channels.len(), config.queues.len());
            if out.wants_json() {
                return out.json(&json!({ "file": name, "faults": [], "channels": channels, "queues": queues }));
            }
            let (channels, queues) = (count(channels, "channel", "channels"), count(queues, "queue", "queues"));
            out.line(&format!("{name}: no fault found; {channels}, {queues}"))
        }
        Err(faults) => {
            if out.wants_json() {
                let list = faults.all().iter();
                let list: Vec<_> =
                    list.map(|fault| json!({ "line": fault.line, "field": fault.field, "said": fault.said })).collect();
                out.json(&json!({ "file": name, "faults": list }))?;
            } else {
                eprintln!("{faults}");
            }
            Err(CliError::Told)
        }
    }
}

pub(super) fn fsck(args: &Fsck, out: &mut Output) -> Result<(), CliError> {
    let file = args.config.clone().or_else(usual_file);
    let config = Config::load(file.as_deref()).map_err(|faults| CliError::Failed(faults.to_string()))?;
    let data_dir = args.data_dir.clone().unwrap_or(config.server.data_dir);
    if !data_dir.is_dir() {
        return Err(CliError::new(format!("{} is no directory", data_dir.display()), "name the data directory"));
    }
    let depth = if args.deep { Depth::Deep } else { Depth::Normal };
    let opened = offline(&data_dir, &config.store, depth);
    // Each of its errors says what to do itself.
    let (opened, report) = opened.map_err(|error| CliError::Failed(error.to_string()))?;
    let findings = report.findings.iter();
    if out.wants_json() {
        let findings: Vec<_> = findings
            .map(|finding| json!({ "code": finding.code, "said": finding.said, "advice": finding.advice }))
            .collect();
        out.json(&json!({ "findings": findings, "records": report.records, "mails": report.mails,
            "entries": report.entries, "tickets": report.tickets }))?;
    } else {
        if let Some(why) = &opened.rebuilt_because {
            out.line(&format!("the index was built anew from the log: {why}"))?;
        }
        if opened.cut_bytes > 0 {
            out.line(&format!(
                "{} of a half-written record cut off; nobody was told of it",
                count(opened.cut_bytes, "byte", "bytes")
            ))?;
        }
        for finding in findings {
            out.line(&format!("{}: {}; {}", finding.code, finding.said, finding.advice))?;
        }
        let counts = [
            count(report.records, "record", "records"),
            count(report.mails, "mail", "mails"),
            count(report.entries, "entry", "entries"),
            count(report.tickets, "ticket", "tickets"),
        ];
        out.line(&format!("{}: {}", counts.join(", "), count(report.findings.len(), "fault", "faults")))?;
    }
    if report.findings.is_empty() { Ok(()) } else { Err(CliError::Told) }
}

fn usual_file() -> Option<std::path::PathBuf> {
    Some(std::path::PathBuf::from(DEFAULT_FILE)).filter(|file| file.exists())
}
