//! Rules for scripts: they can be started, and they stop at the first thing that goes wrong.

use crate::Complaints;
use crate::tree::SourceFile;

/// What a Bash script does before anything else: end on a failed command, on an unset variable, on a failed pipe.
const STRICT: &str = "set -euo pipefail";

/// A file that names its interpreter can be executed, and a file that can be executed names one.
pub fn not_startable(files: &[SourceFile]) -> Complaints {
    let mut complaints = Complaints::new();
    for file in files {
        match (file.text.starts_with("#!/"), file.executable) {
            (true, false) => complaints.push(format!("{}: names an interpreter, not executable", file.path)),
            (false, true) => complaints.push(format!("{}: executable, names no interpreter", file.path)),
            _ => {}
        }
    }
    complaints
}

/// A Bash script begins with [`STRICT`].
pub fn not_strict(files: &[SourceFile]) -> Complaints {
    let bash = files.iter().filter(|file| interpreter(file).is_some_and(|line| line.ends_with("bash")));
    bash.filter(|file| first_command(file) != Some(STRICT))
        .map(|file| format!("{}: does not begin with `{STRICT}`", file.path))
        .collect()
}

fn interpreter(file: &SourceFile) -> Option<&str> {
    file.text.lines().next().filter(|line| line.starts_with("#!")).map(str::trim_end)
}

fn first_command(file: &SourceFile) -> Option<&str> {
    file.text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))
}
