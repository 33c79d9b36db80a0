//! Installs METEOR's tables: `install_meteor FROM TO`, see [`preface_metrics::meteor::install`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let paths: Vec<_> = std::env::args_os().skip(1).collect();
    let [from, to] = paths.as_slice() else {
        eprintln!("usage: install_meteor FROM TO");
        return ExitCode::from(2);
    };
    match preface_metrics::meteor::install(from.as_ref(), to.as_ref()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
