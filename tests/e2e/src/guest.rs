//! One Linux guest: QEMU in software emulation (it needs no `/dev/kvm` and no root), a stock kernel, one job.
//!
//! The guest reaches the test machine's 127.0.0.1 as [`Guest::GATEWAY`], so a target there must advertise that
//! address in its discovery log. QEMU exits with 0 after a kernel panic too; only the exit status that the job sends
//! over the control channel counts.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::NamedTempFile;

use crate::{
    Appliance, Share,
    archive::Archive,
    channel::{Channel, Results},
    initiator::host_iqn,
    places::{self, Kernel},
};

/// How long a guest may run unless the test says otherwise. A bound for a hung guest, not a measure of speed.
const DEFAULT_LIMIT: Duration = Duration::from_secs(600);
/// A guest that dies while it boots is booted again, so often in all.
const BOOTS_MAX: usize = 3;
/// Enough for a page cache of the trees that the jobs write, besides 30 MiB of initramfs.
const DEFAULT_MEMORY_MIB: u32 = 768;
/// Two, so that the host's queues are more than one.
const PROCESSORS: u32 = 2;
/// The time stamp counter is trusted and the timer check left out: both take seconds under emulation and fail when
/// the machine is busy. `panic=-1` with `-no-reboot` ends QEMU at once after a panic.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 panic=-1 tsc=reliable no_timer_check nokaslr mitigations=off \
                                random.trust_cpu=on log_buf_len=4M";
/// Lines of the console shown with an error.
const CONSOLE_TAIL_LINES: usize = 60;

/// Who the guest is as an NVMe host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostIdentity {
    /// Its NVMe Qualified Name.
    pub nqn: String,
    /// Its host identifier, a UUID.
    pub id: String,
}

impl HostIdentity {
    /// The identity number `n`: a UUID-based NQN and the same UUID as host identifier, different for each number.
    pub fn numbered(n: u32) -> HostIdentity {
        let id = format!("2ce3a61c-91f5-4c7e-b0d4-{n:012x}");
        HostIdentity { nqn: format!("nqn.2014-08.org.nvmexpress:uuid:{id}"), id }
    }
}

/// A guest to be started; see [`Guest::builder`].
pub struct GuestBuilder {
    kernel: Kernel,
    name: String,
    host: HostIdentity,
    memory_mib: u32,
    limit: Duration,
    script: String,
    variables: Vec<(String, String)>,
    files: Vec<(String, Vec<u8>)>,
    patched_modules: bool,
    kernel_arguments: String,
}

impl GuestBuilder {
    /// The NVMe host that the guest is (number 1 unless set).
    #[must_use]
    pub fn host(mut self, host: &HostIdentity) -> Self {
        self.host = host.clone();
        self
    }

    /// The guest's memory in MiB.
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u32) -> Self {
        self.memory_mib = memory_mib;
        self
    }

    /// The time after which a guest that has not ended is an error.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// A shell variable for the job.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }

    /// A file for the job, in its working directory.
    #[must_use]
    pub fn file(mut self, name: &str, content: &[u8]) -> Self {
        self.files.push((name.to_owned(), content.to_owned()));
        self
    }

    /// The stock kernel, with the modules of `kernel-patches/dkms` installed. The job finds `patched.sh` beside `lib.sh`.
    #[must_use]
    pub fn patched_modules(mut self) -> Self {
        self.patched_modules = true;
        self
    }

    /// What a job has to know to reach a volume over NVMe/TCP.
    #[must_use]
    pub fn over_nvme(self, appliance: &Appliance, share: &Share) -> Self {
        let guest = self.variable("TRANSPORT", "nvme").variable("PORT", appliance.nvme_port());
        guest.variable("NQN", &share.nqn).variable("UUID", &share.uuid)
    }

    /// What a job has to know to reach a volume over iSCSI, as the initiator `name`.
    #[must_use]
    pub fn over_iscsi(self, appliance: &Appliance, share: &Share, name: &str) -> Self {
        let guest = self.variable("TRANSPORT", "iscsi").variable("PORT", appliance.iscsi_port());
        guest.variable("IQN", share.iqn()).variable("INITIATOR", host_iqn(name))
    }

    /// More words for the kernel's command line.
    #[must_use]
    pub fn kernel_arguments(mut self, words: &str) -> Self {
        self.kernel_arguments = format!("{KERNEL_ARGUMENTS} {words}");
        self
    }

    /// Boots the guest; then its job begins. A kernel that dies before that is booted again: rarely, the emulator lets one processor run
    /// into an instruction that another is just changing.
    ///
    /// # Errors
    /// When the kernel is not prepared, the job is missing, QEMU cannot be started, or the guest never gets that far.
    pub fn start(self) -> Result<Guest> {
        let initramfs = Arc::new(self.initramfs()?);
        let console = places::log_file(&format!("{}.console", self.name))?;
        let deadline = Instant::now() + self.limit;
        for _ in 0..BOOTS_MAX {
            let (qemu, channel) = self.boot(initramfs.path(), &console)?;
            let mut guest = Guest {
                name: self.name.clone(),
                console: console.clone(),
                channel: Some(channel),
                deadline,
                qemu,
                _initramfs: Arc::clone(&initramfs),
            };
            if guest.has_booted()? {
                return Ok(guest);
            }
            eprintln!("it died while it booted: {}", guest.console_tail());
        }
        bail!("{} has not booted in {BOOTS_MAX} attempts, see {}", self.name, console.display())
    }

    fn boot(&self, initramfs: &Path, console: &Path) -> Result<(Child, Channel<ChildStdin>)> {
        let errors = OpenOptions::new().append(true).open(console)?;
        let mut qemu = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-M", "pc", "-nodefaults", "-no-user-config"])
            .args(["-display", "none", "-monitor", "none", "-no-reboot"])
            .args(["-smp", &PROCESSORS.to_string(), "-m", &self.memory_mib.to_string()])
            .args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="])
            // The order makes them ttyS0 and ttyS1.
            .args(["-serial", &format!("file:{}", console.display())])
            .args(["-chardev", "stdio,id=control,signal=off", "-serial", "chardev:control"])
            .arg("-kernel")
            .arg(self.kernel.image()?)
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", &self.kernel_arguments])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .context("qemu-system-x86_64: run tests/e2e/prepare")?;
        let to_guest = qemu.stdin.take().context("a piped stdin")?;
        let from_guest = qemu.stdout.take().context("a piped stdout")?;
        Ok((qemu, Channel::new(to_guest, from_guest)))
    }

    /// The prepared file system, with the job and the host's identity appended as a second archive.
    fn initramfs(&self) -> Result<NamedTempFile> {
        let mut file = NamedTempFile::new()?;
        std::io::copy(&mut File::open(self.kernel.initramfs()?)?, file.as_file_mut())?;
        if self.patched_modules {
            std::io::copy(&mut File::open(self.kernel.patched_modules()?)?, file.as_file_mut())?;
        }
        let mut appended = Vec::new();
        let mut archive = Archive::new(&mut appended);
        archive.directory("job")?;
        archive.file("job/job.sh", &places::guest_script(&self.script)?)?;
        archive.file("job/lib.sh", &places::guest_script("lib.sh")?)?;
        if self.patched_modules {
            archive.file("job/patched.sh", &places::guest_script("patched.sh")?)?;
        }
        archive.file("job/variables.sh", self.quoted_variables()?.as_bytes())?;
        for (name, content) in &self.files {
            archive.file(&format!("job/{name}"), content)?;
        }
        archive.file("etc/nvme/hostnqn", format!("{}\n", self.host.nqn).as_bytes())?;
        archive.file("etc/nvme/hostid", format!("{}\n", self.host.id).as_bytes())?;
        archive.finish()?;
        file.write_all(&appended)?;
        Ok(file)
    }

    fn quoted_variables(&self) -> Result<String> {
        let mut text = format!("GATEWAY='{}'\nHOST_NQN='{}'\n", Guest::GATEWAY, self.host.nqn);
        for (name, value) in &self.variables {
            ensure!(!value.contains('\''), "the value of {name} holds a quotation mark");
            text.push_str(&format!("{name}='{value}'\n"));
        }
        Ok(text)
    }
}

/// A running guest. Dropping it ends it.
pub struct Guest {
    name: String,
    console: PathBuf,
    channel: Option<Channel<ChildStdin>>,
    deadline: Instant,
    qemu: Child,
    _initramfs: Arc<NamedTempFile>,
}

impl Guest {
    /// The test machine's 127.0.0.1 as a guest sees it.
    pub const GATEWAY: &'static str = "10.0.2.2";

    /// A guest that boots `kernel` and runs `tests/e2e/guest/SCRIPT`; `name` names its log.
    pub fn builder(kernel: Kernel, name: &str, script: &str) -> GuestBuilder {
        GuestBuilder {
            kernel,
            name: name.to_owned(),
            host: HostIdentity::numbered(1),
            memory_mib: DEFAULT_MEMORY_MIB,
            limit: DEFAULT_LIMIT,
            script: script.to_owned(),
            variables: Vec::new(),
            files: Vec::new(),
            patched_modules: false,
            kernel_arguments: KERNEL_ARGUMENTS.to_owned(),
        }
    }

    fn has_booted(&mut self) -> Result<bool> {
        let deadline = self.deadline;
        let booted = self.channel()?.wait_booted(deadline);
        booted.with_context(|| self.console_tail())
    }

    /// Waits until the job stands at `phase NAME`; it goes on after [`Guest::go_on`].
    ///
    /// # Errors
    /// When the job ends or stands elsewhere, the guest dies, or its time is over; with the console's last lines.
    pub fn wait_phase(&mut self, name: &str) -> Result<()> {
        let deadline = self.deadline;
        let reached = self.channel()?.wait_phase(name, deadline);
        reached.with_context(|| self.console_tail())
    }

    /// Lets the job go on.
    ///
    /// # Errors
    /// When the guest is gone.
    pub fn go_on(&mut self) -> Result<()> {
        self.go_on_with("")
    }

    /// Lets the job go on, and tells it something: one line, `$told` there.
    ///
    /// # Errors
    /// When the guest is gone.
    pub fn go_on_with(&mut self, told: &str) -> Result<()> {
        self.channel()?.go_on(told)
    }

    /// What the job has reported so far.
    ///
    /// # Errors
    /// When the guest has finished.
    pub fn results(&mut self) -> Result<&Results> {
        Ok(self.channel()?.results())
    }

    /// Waits until the job has reported so many results.
    ///
    /// # Errors
    /// When it stands or ends before that, the guest dies, or its time is over; with the console's last lines.
    pub fn wait_results(&mut self, count: u64) -> Result<()> {
        let deadline = self.deadline;
        let reached = self.channel()?.wait_results(count, deadline);
        reached.with_context(|| self.console_tail())
    }

    /// Ends the guest as a loss of power does: what the job had reported by then.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn cut_power(mut self) -> Result<Results> {
        self.qemu.kill()?;
        self.qemu.wait()?;
        Ok(self.channel.take().context("a guest finishes once")?.into_last_results())
    }

    /// Waits for the job's end and returns what it reported.
    ///
    /// # Errors
    /// When the job failed, the guest died or its time is over; with the console's last lines.
    pub fn finish(mut self) -> Result<Results> {
        let status = self.wait_exit()?;
        ensure!(status == 0, "the job failed with status {status}\n{}", self.console_tail());
        Ok(self.channel.take().context("a guest finishes once")?.into_results())
    }

    /// Waits for the job's end, expecting it to fail: its exit status.
    ///
    /// # Errors
    /// When the guest died or its time is over; with the console's last lines.
    pub fn wait_exit(&mut self) -> Result<i32> {
        let deadline = self.deadline;
        let status = self.channel()?.wait_exit(deadline);
        status.with_context(|| self.console_tail())
    }

    fn channel(&mut self) -> Result<&mut Channel<ChildStdin>> {
        self.channel.as_mut().context("the guest has finished")
    }

    fn console_tail(&self) -> String {
        let text = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(CONSOLE_TAIL_LINES)..).unwrap_or_default();
        format!("guest {} ({}):\n{}", self.name, self.console.display(), tail.join("\n"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The job is over or given up; nothing in the guest's memory is of use to anyone.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
