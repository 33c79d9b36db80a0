//! `preface train`.

use anyhow::Result;

use crate::args::TrainArgs;
use crate::interrupt;
use crate::training::Job;
use crate::training::folder::{self, RunFolder};
use crate::ui::{self, Output};

/// Runs the command.
pub fn run(args: &TrainArgs) -> Result<()> {
    let plan = RunFolder::plan(&args.out, args.settings.typed()?, args.resume, args.force)?;
    let Some((run_folder, typed)) = plan else { return finished(args) };
    let job = Job::open(&typed)?;
    interrupt::install()?;
    let finished = job.run(&run_folder)?;
    finished.result.print(run_folder.path(), args.json)
}

/// The run is finished already.
fn finished(args: &TrainArgs) -> Result<()> {
    ui::note(&format!("{}: the run is finished", args.out.display()));
    if args.json {
        let text = fs_err::read_to_string(args.out.join(folder::RESULT))?;
        let result: serde_json::Value = serde_json::from_str(&text)?;
        let mut out = Output::stdout();
        out.line(&result.to_string())?;
        out.finish()?;
    }
    Ok(())
}
