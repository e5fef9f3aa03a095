//! The two programs that `up` runs: where they are and how they are called.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::args::Plan;
use super::child::Program;
use super::error::UpError;
use super::state_dir::StateDir;

const TARGET: &str = "holdfast-target";
const CONTROL_PLANE: &str = "holdfast-control-plane";

/// Where both programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    target: PathBuf,
    control_plane: PathBuf,
}

impl Programs {
    /// Looks beside this executable first, so that a build or an installation finds its own, then in PATH.
    ///
    /// # Errors
    /// One of them is missing.
    pub(crate) fn find() -> Result<Self, UpError> {
        let executable =
            std::env::current_exe().map_err(UpError::system("cannot find the own executable"))?;
        let beside = executable.parent().unwrap_or(Path::new("/"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let find = |name| {
            std::iter::once(beside.to_owned())
                .chain(std::env::split_paths(&path))
                .map(|folder| folder.join(name))
                .find(|file| is_executable(file))
                .ok_or_else(|| UpError::ProgramMissing { name, beside: beside.to_owned() })
        };
        Ok(Self { target: find(TARGET)?, control_plane: find(CONTROL_PLANE)? })
    }

    /// The data plane's call. Makes its own state directory.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub(crate) fn target(&self, plan: &Plan, state: &StateDir) -> Result<Program, UpError> {
        let own_state = state.path().join("target");
        match std::fs::create_dir(&own_state) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(UpError::State { path: own_state, what: "cannot make it", source });
            }
            _ => {}
        }
        let mut args: Vec<OsString> = vec!["--state".into(), own_state.into()];
        args.extend(["--socket".into(), state.socket("target.sock").into()]);
        args.extend(["--cores".into(), plan.cores.to_string().into()]);
        args.extend(["--io".into(), plan.io.name().into()]);
        if let Some(size) = plan.map_memory {
            args.extend(["--map-memory".into(), size.bytes().to_string().into()]);
        }
        if plan.drills {
            args.push("--enable-drills".into());
        }
        for (flag, addresses) in
            [("--nvme-advertise", &plan.nvme_advertise), ("--iscsi-advertise", &plan.iscsi_advertise)]
        {
            for address in addresses {
                args.extend([flag.into(), address.to_string().into()]);
            }
        }
        let notify_socket = state.socket("notify-target.sock");
        Ok(Program { name: TARGET, path: self.target.clone(), args, notify_socket })
    }

    /// The management plane's call.
    pub(crate) fn control_plane(&self, plan: &Plan, state: &StateDir) -> Program {
        let mut args: Vec<OsString> = vec![
            "--state".into(),
            state.path().into(),
            "--target-socket".into(),
            state.socket("target.sock").into(),
            "--ram-pool".into(),
            plan.ram_pool.bytes().to_string().into(),
        ];
        if plan.drills {
            args.push("--enable-drills".into());
        }
        let notify_socket = state.socket("notify-control.sock");
        Program { name: CONTROL_PLANE, path: self.control_plane.clone(), args, notify_socket }
    }
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
