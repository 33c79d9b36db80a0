//! `preface train`.

use anyhow::Result;

use crate::args::TrainArgs;
use crate::config::RunConfig;
use crate::engine::Source;
use crate::interrupt;
use crate::training::folder::{Plan, RunFolder};
use crate::training::{Job, read_data};
use crate::ui::{self, Output};

/// Runs the command.
pub fn run(args: &TrainArgs) -> Result<()> {
    let (folder, typed) = match RunFolder::plan(&args.out, args.settings.typed()?, args.resume, args.force)? {
        Plan::Train(folder, typed) => (folder, typed),
        Plan::Finished(result) => {
            ui::note(&format!("{}: the run is finished", args.out.display()));
            if args.json {
                let mut out = Output::stdout();
                let result: serde_json::Value = serde_json::from_str(&fs_err::read_to_string(result)?)?;
                out.line(&result.to_string())?;
                out.finish()?;
            }
            return Ok(());
        }
    };
    let source = Source::open(&RunConfig::model_of(&typed)?)?;
    let config = RunConfig::resolve(&typed, source.files.spec().family)?;
    let (train, valid) = read_data(&config)?;
    let job = Job::new(config, source, train, valid)?;
    interrupt::install()?;
    let finished = job.run(&folder)?;
    finished.result.print(folder.path(), args.json)
}
