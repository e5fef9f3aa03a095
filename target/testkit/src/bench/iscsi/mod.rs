//! iSCSI: one session for each lane.

mod lane;
mod receive;

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_testkit::NamespaceFormat;
use holdfast_testkit::iscsi::{Done, Login, Scsi, Session, read_capacity16, test_unit_ready};
use holdfast_testkit::pi::GuardKind;

use self::lane::IscsiLane;
use crate::args::{PiMode, RunArguments};
use crate::lane::{Lane, Lanes};
use crate::run::Opened;
use crate::workload::Plan;

/// Unit attentions that a new session may meet, one with each command.
const ATTENTIONS_MAX: usize = 8;
/// Bytes of READ CAPACITY (16) parameter data. SBC-4 §5.20.2.
const CAPACITY_LEN: usize = 32;
/// The most data that one burst carries: commands of this size need a single R2T.
const BURST_LEN: &str = "1048576";

/// Opens the sessions.
pub(crate) fn open(args: &RunArguments) -> Result<Opened> {
    ensure!(args.pi != PiMode::Pract, "--pi pract is NVMe's: over iSCSI it is off or end-to-end");
    let mut sessions = Vec::new();
    for number in 1..=args.queues {
        let login = Login::new(&args.initiator, &args.subsystem)
            .qualifier(number)
            .key("MaxBurstLength", BURST_LEN)
            .digests(args.header_digest, args.data_digest);
        let mut session =
            Session::open(args.target, &login).with_context(|| format!("logging in to {}", args.target))?;
        settle(&mut session, args.lun).with_context(|| format!("logical unit {}", args.lun))?;
        sessions.push(session);
    }
    let first = sessions.first_mut().context("no session")?;
    let format = unit_format(first, args.lun).with_context(|| format!("logical unit {}", args.lun))?;
    // A 16-byte command cannot carry the tags that type 2 compares.
    ensure!(args.pi == PiMode::Off || format.pi_type != 2, "--pi end-to-end is for types 1 and 3 over iSCSI");
    // Without RDPROTECT and WRPROTECT data travels alone, whatever the unit is formatted with.
    let shown = if args.pi == PiMode::Off { NamespaceFormat { metadata_size: 0, ..format } } else { format };
    let plan = Plan::new(args, shown)?;
    let writes = args.fill || plan.read_percent < 100;
    let mut lanes = Lanes::new();
    for session in sessions {
        let lane: Box<dyn Lane> =
            Box::new(IscsiLane::new(session, args.lun, &plan, args.depth.into(), writes)?);
        lanes.push((u64::try_from(lanes.len())?, lane));
    }
    Ok(Opened { plan, lanes, keeper: None })
}

/// Takes what the unit has to tell a new session.
fn settle(session: &mut Session, lun: u16) -> Result<()> {
    for _ in 0..ATTENTIONS_MAX {
        let done = session.run(Scsi::new(lun, test_unit_ready()))?;
        if done.sense.as_ref().is_none_or(|sense| sense.key != 6) {
            done.ok()?;
            return Ok(());
        }
    }
    bail!("it is not ready after {ATTENTIONS_MAX} unit attentions")
}

/// Size and protection. SBC-4 §5.20.2 "READ CAPACITY (16) parameter data".
fn unit_format(session: &mut Session, lun: u16) -> Result<NamespaceFormat> {
    let len = u32::try_from(CAPACITY_LEN)?;
    let Done { data, .. } = session.run(Scsi::read(lun, read_capacity16(len), CAPACITY_LEN))?.ok()?;
    let (Some((last, rest)), Some(flags)) = (data.split_first_chunk(), data.get(12)) else {
        bail!("READ CAPACITY (16) answered {} bytes", data.len());
    };
    let block_size = rest.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    ensure!(block_size.is_power_of_two(), "blocks of {block_size} bytes");
    let protected = flags & 1 != 0;
    Ok(NamespaceFormat {
        blocks: u64::from_be_bytes(*last).saturating_add(1),
        block_size: usize::try_from(block_size)?,
        metadata_size: if protected { 8 } else { 0 },
        interleaved: true,
        pi_type: if protected { (flags >> 1 & 7).saturating_add(1) } else { 0 },
        pi_first: false,
        guard: GuardKind::Crc16,
        storage_tag_bits: 0,
    })
}
