//! `orrery-collector status`: what is wrong, in the words of the page.

use std::io::Write as _;

use clap::{Args, ValueEnum};

use super::Orrery;

/// What `status` is told.
#[derive(Debug, Args)]
pub struct StatusTool {
    #[command(flatten)]
    orrery: Orrery,
    /// How the answer is printed.
    #[arg(short, long, default_value = "text", value_name = "FORM")]
    output: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Lines for people.
    Text,
    /// One JSON object, as `/api/v1/status` has it.
    Json,
}

impl StatusTool {
    /// Prints how the collector stands; whether all is well.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn run(self) -> anyhow::Result<bool> {
        let status = self.orrery.status().await?;
        let text = match self.output {
            Form::Text => status.to_string(),
            Form::Json => format!("{}\n", serde_json::to_string(&status)?),
        };
        std::io::stdout().lock().write_all(text.as_bytes())?;
        Ok(status.ok)
    }
}
