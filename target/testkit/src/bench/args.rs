//! The command line.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use holdfast_testkit::load::Mix;

/// The most commands in flight on one connection: NVMe's queue entries are counted in 16 bits, less one, and
/// CID FFFFh stays unused.
const DEPTH_MAX: i64 = 65_534;

const EXAMPLES: &str = "\
Examples:
  Random 4 KiB reads, 32 in flight, for 10 seconds, on namespace 1 (the area is written once before):
    holdfast-bench run --target 127.0.0.1:4420 --subsystem nqn.2026-11.io.holdfast:s1 \\
        --host-nqn nqn.2026-11.io.example:bench --depth 32 --fill

  70 % reads over four connections with protection information made and checked by this host:
    holdfast-bench run --target 127.0.0.1:4420 --subsystem nqn.2026-11.io.holdfast:s1 \\
        --host-nqn nqn.2026-11.io.example:bench --queues 4 --mix 70/30 --pi end-to-end --verify

  The same over two iSCSI sessions, on LUN 0:
    holdfast-bench run --transport iscsi --target 127.0.0.1:3260 --subsystem iqn.2026-11.io.holdfast:s1 \\
        --initiator iqn.2026-11.io.example:bench --queues 2 --mix 70/30 --pi end-to-end --verify

  What 64 idle hosts cost the target (processor time and memory of process 4711):
    holdfast-bench idle --target 127.0.0.1:4420 --subsystem nqn.2026-11.io.holdfast:s1 \\
        --hosts 64 --seconds 30 --target-pid 4711

The exit status is 0 when every command succeeded, 1 when one did not, 2 for wrong usage.";

/// Load generator for NVMe/TCP and iSCSI targets that speaks protection information.
#[derive(Debug, Parser)]
#[command(name = "holdfast-bench", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) task: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Load a namespace and report throughput, latency and processor time
    Run(RunArguments),
    /// Hold many idle hosts and report the target's processor time and memory
    Idle(IdleArguments),
}

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RunArguments {
    /// What the target's portal speaks
    #[arg(long, value_enum, default_value_t = Transport::Nvme)]
    pub(crate) transport: Transport,
    /// The target's portal
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) target: SocketAddr,
    /// The subsystem's NQN, or IQN for iSCSI
    #[arg(long, value_name = "NAME")]
    pub(crate) subsystem: String,
    /// The NQN that this host calls itself
    #[arg(long, value_name = "NQN", default_value = "nqn.2026-11.io.holdfast:bench")]
    pub(crate) host_nqn: String,
    /// The IQN that this initiator calls itself
    #[arg(long, value_name = "IQN", default_value = "iqn.2026-11.io.holdfast:bench")]
    pub(crate) initiator: String,
    /// The namespace
    #[arg(long, default_value_t = 1)]
    pub(crate) nsid: u32,
    /// The logical unit
    #[arg(long, default_value_t = 0)]
    pub(crate) lun: u16,
    /// Commands in flight on each connection
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=DEPTH_MAX))]
    pub(crate) depth: u16,
    /// I/O queues or iSCSI sessions, each a connection of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) queues: u16,
    /// Threads that share the queues
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: u16,
    /// Data of one command: bytes, or with a suffix KiB or MiB
    #[arg(long, value_name = "SIZE", default_value = "4KiB")]
    pub(crate) block_size: Size,
    /// Which blocks
    #[arg(long, value_enum, default_value_t = Pattern::Random)]
    pub(crate) pattern: Pattern,
    /// read, write, or percentages such as 70/30 (reads first)
    #[arg(long, value_name = "MIX", default_value = "read")]
    pub(crate) mix: Mix,
    /// Protection information: off; pract: the target inserts and strips (NVMe); end-to-end: it travels
    #[arg(long, value_enum, default_value_t = PiMode::Off)]
    pub(crate) pi: PiMode,
    /// Use header digests
    #[arg(long)]
    pub(crate) header_digest: bool,
    /// Use data digests
    #[arg(long)]
    pub(crate) data_digest: bool,
    /// Measured time in seconds; fractions are allowed
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub(crate) seconds: Seconds,
    /// Time under load before measuring, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1")]
    pub(crate) warmup: Seconds,
    /// The area from block 0 on that is used [default: the whole namespace]
    #[arg(long, value_name = "SIZE")]
    pub(crate) span: Option<Size>,
    /// Write the whole area once before the warm-up, so that reads find written blocks
    #[arg(long)]
    pub(crate) fill: bool,
    /// Check guard and reference tag of every block read (with --pi end-to-end)
    #[arg(long)]
    pub(crate) verify: bool,
    /// Flush after each write: both count as one, from the write's submission to the Flush's completion
    #[arg(long)]
    pub(crate) flush: bool,
    /// Process of the target whose processor time is divided by the I/Os; may repeat
    #[arg(long, value_name = "PID")]
    pub(crate) target_pid: Vec<u32>,
    /// Start of the pseudo-random sequence
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Arguments of `idle`.
#[derive(Debug, Args)]
pub(crate) struct IdleArguments {
    /// The target's NVMe/TCP portal
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) target: SocketAddr,
    /// The subsystem's NQN
    #[arg(long, value_name = "NQN")]
    pub(crate) subsystem: String,
    /// Host NQNs are this and a number from 1 on
    #[arg(long, value_name = "NQN", default_value = "nqn.2026-11.io.holdfast:idle-")]
    pub(crate) host_nqn_prefix: String,
    /// How many hosts, each with an Admin Queue and one I/O queue
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) hosts: u16,
    /// Keep Alive Timeout in seconds; each host sends Keep Alive at half of it, as Linux does
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(crate) keep_alive: u16,
    /// Measured time in seconds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// Time between the last connect and the measurement, in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub(crate) settle: u64,
    /// Process to look at; may repeat
    #[arg(long, value_name = "PID", required = true)]
    pub(crate) target_pid: Vec<u32>,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// What a portal speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// NVMe/TCP.
    Nvme,
    /// iSCSI.
    Iscsi,
}

/// Which blocks are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pattern {
    /// Anywhere in the area.
    Random,
    /// One after the other; each queue has its own part of the area.
    Sequential,
}

/// What is done with protection information.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PiMode {
    /// Nothing: the namespace must show no metadata.
    Off,
    /// PRACT=1: no tuples on the wire.
    Pract,
    /// Tuples made here, and checked by the target both ways.
    EndToEnd,
}

/// How to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const SUFFIXES: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
        let suffix = SUFFIXES.iter().find_map(|(suffix, shift)| Some((text.strip_suffix(suffix)?, *shift)));
        let (digits, shift) = suffix.unwrap_or((text, 0));
        let size = digits.trim().parse::<u64>().ok().and_then(|count| count.checked_mul(1 << shift));
        size.filter(|size| *size > 0)
            .map(Self)
            .ok_or_else(|| "expected bytes, or a number with KiB, MiB, GiB or TiB".into())
    }
}

/// A time in seconds, with fractions; up to a day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seconds(pub(crate) Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds));
        let seconds = seconds.ok_or("expected seconds, from 0 to 86400")?;
        Ok(Self(Duration::from_secs_f64(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_take_fractions() {
        assert_eq!("0.25".parse(), Ok(Seconds(Duration::from_millis(250))));
        assert!("-1".parse::<Seconds>().is_err() && "inf".parse::<Seconds>().is_err());
    }

    #[test]
    fn sizes_take_binary_suffixes() {
        assert_eq!("512".parse(), Ok(Size(512)));
        assert_eq!("4KiB".parse(), Ok(Size(4096)));
        assert!("0".parse::<Size>().is_err() && "99999999TiB".parse::<Size>().is_err());
    }
}
