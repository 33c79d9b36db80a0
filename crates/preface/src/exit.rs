//! Exit codes: 0 done, 1 failed, 2 wrong use. A reader that went away (`preface ... | head`) is no failure.

use std::io;
use std::process::ExitCode;

/// Nothing was tried, because what was typed cannot be meant: exit code 2.
#[derive(Debug)]
pub struct WrongUse(pub String);

impl std::fmt::Display for WrongUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongUse {}

/// Something failed and was reported already: exit code 1.
#[derive(Debug)]
pub struct Reported;

impl std::fmt::Display for Reported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Reported {}

/// Code of a second Ctrl-C, which ends the process at once.
pub const INTERRUPTED: i32 = 1;

/// Reports a command's error on stderr and says how the process ends.
pub fn code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if is_broken_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    if !error.is::<Reported>() {
        crate::ui::note(&format!("error: {error:#}"));
    }
    ExitCode::from(if error.is::<WrongUse>() { 2 } else { 1 })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn each_kind_of_error_has_its_code() {
        let code_of = |error: anyhow::Error| format!("{:?}", code(Err(error)));
        assert_eq!(code_of(anyhow::anyhow!("x")), format!("{:?}", ExitCode::from(1)));
        assert_eq!(code_of(WrongUse("x".into()).into()), format!("{:?}", ExitCode::from(2)));
        let wrapped = Err::<(), _>(WrongUse("x".into())).context("while").unwrap_err();
        assert_eq!(code_of(wrapped), format!("{:?}", ExitCode::from(2)));
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(
            code_of(anyhow::Error::from(pipe).context("printing")),
            format!("{:?}", ExitCode::SUCCESS)
        );
    }
}
