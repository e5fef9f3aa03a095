//! NVMe/TCP: one association whose I/O queues are the lanes.

mod lane;
mod receive;

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::{Options, Session};

use self::lane::NvmeLane;
use crate::args::RunArguments;
use crate::lane::{Lane, Lanes};
use crate::run::Opened;
use crate::workload::Plan;

/// Keep Alive Timeout.
pub(crate) const KEEP_ALIVE_MS: u32 = 15_000;

/// Opens the association and its queues.
pub(crate) fn open(args: &RunArguments) -> Result<Opened> {
    let options = Options::default()
        .digests(args.header_digest, args.data_digest)
        .io_queues(args.queues)
        .queue_size(args.depth.saturating_add(1))
        .kato_ms(KEEP_ALIVE_MS);
    let mut session = Session::open(args.target, &args.host_nqn, &args.subsystem, options)
        .with_context(|| format!("connecting to {}", args.target))?;
    let depth_max = session.queue_depth_max();
    ensure!(
        args.depth <= depth_max,
        "--depth {} is more than the {depth_max} that the target takes",
        args.depth
    );
    if let Some(limit) = session.controller().transfer_max() {
        ensure!(args.block_size.0 <= limit, "--block-size is more than the target's limit of {limit} bytes");
    }
    let format = session.namespace_format(args.nsid).with_context(|| format!("namespace {}", args.nsid))?;
    let plan = Plan::new(args, format)?;
    let writes = args.fill || plan.read_percent < 100;
    let mut lanes = Lanes::new();
    for queue in session.take_io_queues() {
        let lane: Box<dyn Lane> = Box::new(NvmeLane::new(queue, &plan, args.depth.into(), writes)?);
        lanes.push((u64::try_from(lanes.len())?, lane));
    }
    Ok(Opened { plan, lanes, keeper: Some(session) })
}
