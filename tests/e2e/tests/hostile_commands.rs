//! Commands that lie, on the real appliance: each gets its exact status and the connection stays. Base 2.1 §4.2.3 "Status
//! Field Definition", §4.3.2 "Scatter Gather List (SGL)", §6.3 "Connect Command and Response".

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Plane, Share, host_nqn};
use holdfast_testkit::wire::{Pdu, Sqe, Status, code, fes, opcode};
use holdfast_testkit::{
    Command, ConnectCommand, ConnectOptions, DeallocateRange, Io, Options, Placement, Property, Queue,
    Session, host_id_of,
};

const BLOCK: usize = 4096;
const MIB: u64 = 64;
const BLOCKS: u64 = (MIB << 20) / 4096;

fn appliance(name: &str) -> Result<(Appliance, Share)> {
    let appliance = Appliance::start(name)?;
    let share = appliance.share("disk", MIB, 4096)?;
    appliance.admit_scripted("good", &share, "plain", "any")?;
    Ok((appliance, share))
}

fn expect(what: &str, status: Status, pair: (u8, u8)) -> Result<()> {
    ensure!(status.pair() == pair, "{what}: {status}, not {:x}h/{:02x}h", pair.0, pair.1);
    ensure!(status.dnr || pair == code::SUCCESS, "{what}: {status}: it will not get better by trying again");
    Ok(())
}

#[test]
fn sgls_that_lie_get_their_exact_status() -> Result<()> {
    let (appliance, share) = appliance("hostile_sgl")?;
    let before = appliance.process(Plane::Data)?;
    let mut session = appliance.session("good", &share, Options::default())?;
    let io = session.io(1);
    let write = Io::at(4, 1).sqe(opcode::WRITE, 1);
    let read = Io::at(4, 1).sqe(opcode::READ, 1);
    let block = u32::try_from(BLOCK)?;
    let sent =
        |sqe: Sqe, len: usize| Command::with_data(sqe, vec![7; len]).placed(Placement::InCapsule).keep_sgl();
    let cases = [
        (
            "transfer shorter than the blocks",
            Command::bare(write.sgl_transport(block - 1)).keep_sgl(),
            code::DATA_SGL_LENGTH_INVALID,
        ),
        (
            "no transfer at all",
            Command::bare(write.sgl_transport(0)).keep_sgl(),
            code::DATA_SGL_LENGTH_INVALID,
        ),
        (
            "capsule data shorter",
            sent(write.sgl_in_capsule(0, block - 4), BLOCK),
            code::DATA_SGL_LENGTH_INVALID,
        ),
        (
            "capsule data longer than the capsule",
            sent(write.sgl_in_capsule(0, block + 4), BLOCK),
            code::DATA_SGL_LENGTH_INVALID,
        ),
        (
            "capsule data of 4 GiB",
            sent(write.sgl_in_capsule(0, u32::MAX), BLOCK),
            code::DATA_SGL_LENGTH_INVALID,
        ),
        (
            "capsule data that did not come",
            sent(write.sgl_in_capsule(0, block), 0),
            code::DATA_SGL_LENGTH_INVALID,
        ),
        (
            "part of it beyond the capsule",
            sent(write.sgl_in_capsule(4, block), BLOCK),
            code::DATA_SGL_LENGTH_INVALID,
        ),
        (
            "offset beyond the capsule",
            sent(write.sgl_in_capsule(8192, block), BLOCK),
            code::SGL_OFFSET_INVALID,
        ),
        ("offset of 2^64", sent(write.sgl_in_capsule(u64::MAX, block), BLOCK), code::SGL_OFFSET_INVALID),
        (
            "read into the capsule",
            Command::bare(read.sgl_in_capsule(0, block)).keep_sgl(),
            code::SGL_TYPE_INVALID,
        ),
        (
            "read longer than its buffer",
            Command::bare(read.sgl_transport(block - 1)).keep_sgl(),
            code::DATA_SGL_LENGTH_INVALID,
        ),
        ("PRPs", Command::bare(write.flags(0).sgl_transport(block)).keep_sgl(), code::INVALID_FIELD),
        ("fused", Command::bare(write.flags(0x41).sgl_transport(block)).keep_sgl(), code::INVALID_FIELD),
    ];
    for (what, command, pair) in cases {
        expect(what, io.run(command)?.status(), pair)?;
        io.flush(1)?.ok().context(what)?;
    }
    for identifier in [0x00, 0x02, 0x0f, 0x10, 0x20, 0x30, 0x40, 0x50, 0x51, 0x5b, 0xf0, 0xff] {
        for sqe in [write, read] {
            let status = io.run(Command::bare(sqe.sgl(0, block, identifier)).keep_sgl())?.status();
            expect(&format!("SGL {identifier:02x}h of {sqe:?}"), status, code::SGL_TYPE_INVALID)?;
        }
    }
    let back = io.read(1, &Io::at(4, 1), BLOCK)?.ok()?.data;
    ensure!(back == vec![0; BLOCK], "something was stored");
    // What is allowed: a longer descriptor, and data that do not begin at the capsule's first byte.
    let longer =
        Command::with_data(write.sgl_transport(block * 2), vec![7; BLOCK]).placed(Placement::Solicited);
    io.run(longer.keep_sgl())?.ok()?;
    let mut shifted = vec![1; 16];
    shifted.extend(vec![9; BLOCK]);
    let shifted = Command::with_data(write.sgl_in_capsule(16, block), shifted).placed(Placement::InCapsule);
    io.run(shifted.keep_sgl())?.ok()?;
    let back = io.run(Command::reading(read.sgl_transport(block * 2), BLOCK).keep_sgl())?.ok()?.data;
    ensure!(back == vec![9; BLOCK], "the offset into the capsule was not honoured");
    session.close()?;
    appliance.same_target(before)?;
    appliance.stop()
}

#[test]
fn unknown_opcodes_are_invalid_opcodes() -> Result<()> {
    let (appliance, share) = appliance("hostile_opcodes")?;
    let before = appliance.process(Plane::Data)?;
    let mut session = appliance.session("good", &share, Options::default())?;
    let known_io = [0x00, 0x01, 0x02, 0x04, 0x05, 0x08, 0x09, 0x0c, 0x19, 0x7f];
    let known_admin = [0x02, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x18, 0x7f];
    for unknown in 0..=0xff {
        if !known_io.contains(&unknown) {
            let status = session.io(1).run(Command::bare(Sqe::new(unknown).with_nsid(1)))?.status();
            expect(&format!("I/O opcode {unknown:02x}h"), status, code::INVALID_OPCODE)?;
        }
        if !known_admin.contains(&unknown) {
            let status = session.admin().run(Command::bare(Sqe::new(unknown)))?.status();
            expect(&format!("admin opcode {unknown:02x}h"), status, code::INVALID_OPCODE)?;
        }
    }
    // A reserved type is a field that cannot be; Authentication Send and Receive are commands that we do not have.
    let reserved = [0x02, 0x03, 0x07, 0x09, 0xc0, 0xff].map(|fctype| (fctype, code::INVALID_FIELD));
    let unsupported = [0x05, 0x06].map(|fctype| (fctype, code::INVALID_OPCODE));
    for (unknown, expected) in reserved.into_iter().chain(unsupported) {
        for qid in 0..2 {
            let queue = if qid == 0 { session.admin() } else { session.io(1) };
            let status = queue.run(Command::bare(Sqe::fabrics(unknown)))?.status();
            expect(&format!("FCTYPE {unknown:02x}h on queue {qid}"), status, expected)?;
        }
    }
    session.close()?;
    appliance.same_target(before)?;
    appliance.stop()
}

#[test]
fn ranges_that_cannot_be_are_refused_and_change_nothing() -> Result<()> {
    let (appliance, share) = appliance("hostile_ranges")?;
    let before = appliance.process(Plane::Data)?;
    let mut session = appliance.session("good", &share, Options::default())?;
    let io = session.io(1);
    let full = vec![3; 8 * BLOCK];
    io.write(1, &Io::at(BLOCKS - 8, 8), &full)?.ok()?;
    let ranges =
        [(u64::MAX, 1), (u64::MAX - 1, 2), (u64::MAX, 256), (1 << 63, 1), (BLOCKS, 1), (BLOCKS - 1, 2)];
    for operation in [opcode::READ, opcode::WRITE, opcode::COMPARE, opcode::VERIFY, opcode::WRITE_ZEROES] {
        let run = |io: &mut Queue, nsid: u32, lba: u64, blocks: u32| -> Result<Status> {
            let sqe = Io::at(lba, blocks).sqe(operation, nsid);
            let len = blocks.saturating_mul(4096);
            Ok(io.run(Command::bare(sqe.sgl_transport(len)).keep_sgl())?.status())
        };
        for (lba, blocks) in ranges {
            let what = format!("opcode {operation:02x}h, {blocks} blocks at {lba:#x}");
            expect(&what, run(io, 1, lba, blocks)?, code::LBA_OUT_OF_RANGE)?;
        }
        // MDTS is for what moves data between host and controller.
        let moves_data = [opcode::READ, opcode::WRITE, opcode::COMPARE].contains(&operation);
        for blocks in [257, 65_536] {
            let what = format!("opcode {operation:02x}h, {blocks} blocks are more than MDTS");
            let beyond = u64::from(blocks) > BLOCKS;
            let expected = match (moves_data, beyond) {
                (true, _) => code::INVALID_FIELD,
                (false, true) => code::LBA_OUT_OF_RANGE,
                (false, false) => code::SUCCESS,
            };
            expect(&what, run(io, 1, 0, blocks)?, expected)?;
        }
        for nsid in [0, 1025, u32::MAX - 1, u32::MAX] {
            let what = format!("opcode {operation:02x}h, NSID {nsid}, which cannot be");
            expect(&what, run(io, nsid, 0, 1)?, code::INVALID_NAMESPACE)?;
        }
        for nsid in [2, 1024] {
            let what = format!("opcode {operation:02x}h, NSID {nsid}, which is not in use");
            expect(&what, run(io, nsid, 0, 1)?, code::INVALID_FIELD)?;
        }
    }
    let good = DeallocateRange { slba: BLOCKS - 8, blocks: 8 };
    for (slba, blocks) in [(u64::MAX, 1), (BLOCKS, 1), (0, u32::MAX), (u64::MAX, u32::MAX)] {
        let status = io.deallocate(1, &[good, DeallocateRange { slba, blocks }])?.status();
        expect(&format!("deallocating {blocks} blocks at {slba:#x}"), status, code::LBA_OUT_OF_RANGE)?;
    }
    let back = io.read(1, &Io::at(BLOCKS - 8, 8), full.len())?.ok()?.data;
    ensure!(back == full, "a refused command changed the volume");
    session.close()?;
    appliance.same_target(before)?;
    appliance.stop()
}

/// A connection on which nothing but ICReq has been exchanged.
fn fresh(appliance: &Appliance) -> Result<Queue> {
    Ok(Queue::new(appliance.initialized(&ConnectOptions::default())?, 0))
}

fn connect_of(share: &Share) -> ConnectCommand {
    let nqn = host_nqn("good");
    ConnectCommand::admin(&nqn, host_id_of(&nqn), &share.nqn)
}

/// Dword 0 of a refused Connect: where the wrong parameter is, in the command or in the data.
const IN_DATA: u32 = 1 << 16;

#[test]
fn a_connect_that_lies_is_refused_with_the_place_of_the_lie() -> Result<()> {
    let (appliance, share) = appliance("hostile_connect")?;
    let before = appliance.process(Plane::Data)?;
    let good = connect_of(&share);
    let stranger = host_nqn("stranger");
    let invalid = code::CONNECT_INVALID_PARAMETERS;
    let long = vec![b'x'; 256];
    let cases = [
        ("SQSIZE 0", ConnectCommand { sqsize: 0, ..good.clone() }, invalid, Some(44)),
        ("SQSIZE FFFFh", ConnectCommand { sqsize: 0xffff, ..good.clone() }, invalid, Some(44)),
        ("CNTLID 5", ConnectCommand { cntlid: 5, ..good.clone() }, invalid, Some(IN_DATA | 16)),
        (
            "no such subsystem",
            ConnectCommand { subnqn: b"nqn.2026-11.io.holdfast:no".to_vec(), ..good.clone() },
            invalid,
            Some(IN_DATA | 256),
        ),
        ("no SUBNQN", ConnectCommand { subnqn: Vec::new(), ..good.clone() }, invalid, Some(IN_DATA | 256)),
        (
            "an endless SUBNQN",
            ConnectCommand { subnqn: long.clone(), ..good.clone() },
            invalid,
            Some(IN_DATA | 256),
        ),
        ("no HOSTNQN", ConnectCommand { hostnqn: Vec::new(), ..good.clone() }, invalid, Some(IN_DATA | 512)),
        (
            "an endless HOSTNQN",
            ConnectCommand { hostnqn: long, ..good.clone() },
            invalid,
            Some(IN_DATA | 512),
        ),
        (
            "a HOSTNQN that is no text",
            ConnectCommand { hostnqn: vec![0xff, 0xfe], ..good.clone() },
            invalid,
            Some(IN_DATA | 512),
        ),
        (
            "a stranger",
            ConnectCommand { hostnqn: stranger.into_bytes(), ..good.clone() },
            code::CONNECT_INVALID_HOST,
            None,
        ),
        ("RECFMT 1", ConnectCommand { recfmt: 1, ..good.clone() }, code::CONNECT_INCOMPATIBLE_FORMAT, None),
    ];
    for (what, connect, pair, place) in cases {
        let mut queue = fresh(&appliance)?;
        let refused = queue.connect(&connect)?;
        expect(what, refused.status(), pair)?;
        ensure!(place.is_none_or(|place| refused.cqe.dw0 == place), "{what}: {:?}", refused.cqe);
        // The connection may try again, rightly.
        queue.connect(&good)?.ok().with_context(|| format!("after {what}"))?;
    }
    let bare = good.command().sqe;
    for (what, sqe) in
        [("no data", bare.sgl_transport(0)), ("data that did not come", bare.sgl_in_capsule(0, 1024))]
    {
        let mut queue = fresh(&appliance)?;
        let status = queue.run(Command::bare(sqe).keep_sgl())?.status();
        expect(what, status, code::DATA_SGL_LENGTH_INVALID)?;
    }
    let mut queue = fresh(&appliance)?;
    let short = Command::with_data(bare, vec![0; 512]).placed(Placement::InCapsule);
    expect("half the data", queue.run(short)?.status(), code::DATA_SGL_LENGTH_INVALID)?;
    appliance.works_for("good", &share, 8)?;
    appliance.same_target(before)?;
    appliance.stop()
}

#[test]
fn an_io_queue_must_name_its_own_controller() -> Result<()> {
    let (appliance, share) = appliance("hostile_io_connect")?;
    let before = appliance.process(Plane::Data)?;
    appliance.admit_scripted("other", &share, "plain", "any")?;
    let second = appliance.share("second", 8, 4096)?;
    appliance.rest().put("/subsystems/second/hosts/good", &serde_json::json!({}))?;
    let mut session = appliance.session("good", &share, Options::default().io_queues(2))?;
    let io = session.connect_command().io(session.cntlid(), 2, 127);
    let invalid = code::CONNECT_INVALID_PARAMETERS;
    let cases = [
        (
            "another host",
            ConnectCommand { hostnqn: host_nqn("other").into_bytes(), ..io.clone() },
            invalid,
            IN_DATA | 512,
        ),
        (
            "another subsystem",
            ConnectCommand { subnqn: second.nqn.clone().into_bytes(), ..io.clone() },
            invalid,
            IN_DATA | 256,
        ),
        ("another host identifier", ConnectCommand { hostid: [9; 16], ..io.clone() }, invalid, IN_DATA),
        ("a QID beyond all queues", ConnectCommand { qid: 999, ..io.clone() }, invalid, 42),
        ("QID FFFFh", ConnectCommand { qid: 0xffff, ..io.clone() }, invalid, 42),
        ("a QID in use", io.clone(), code::SEQUENCE_ERROR, 0),
    ];
    for (what, connect, pair, place) in cases {
        let refused = fresh(&appliance)?.connect(&connect)?;
        expect(what, refused.status(), pair)?;
        ensure!(refused.cqe.dw0 == place, "{what}: {:?}", refused.cqe);
    }
    let refused = fresh(&appliance)?.connect(&ConnectCommand { cntlid: 0xfff0, ..io })?;
    ensure!(refused.status().pair() == invalid && refused.cqe.dw0 == (IN_DATA | 16), "{:?}", refused.cqe);
    session.io(1).flush(1)?.ok()?;
    session.io(2).flush(1)?.ok()?;
    session.close()?;
    appliance.same_target(before)?;
    appliance.stop()
}

#[test]
fn commands_out_of_sequence_are_sequence_errors() -> Result<()> {
    let (appliance, share) = appliance("hostile_sequence")?;
    let mut queue = fresh(&appliance)?;
    for sqe in [
        Sqe::new(opcode::IDENTIFY).cdw(10, 1),
        Io::at(0, 1).sqe(opcode::READ, 1).sgl_transport(4096),
        Sqe::new(opcode::KEEP_ALIVE),
        Sqe::fabrics(opcode::PROPERTY_GET),
        Sqe::fabrics(opcode::DISCONNECT),
    ] {
        let status = queue.run(Command::bare(sqe).keep_sgl())?.status();
        expect(&format!("{sqe:?} before Connect"), status, code::SEQUENCE_ERROR)?;
    }
    let connect = connect_of(&share);
    let cntlid = u16::try_from(queue.connect(&connect)?.ok()?.cqe.dw0 & 0xffff)?;
    expect("a second Connect", queue.connect(&connect)?.status(), code::SEQUENCE_ERROR)?;
    expect("Identify before CC.EN", queue.identify(1, 0, 0)?.status(), code::SEQUENCE_ERROR)?;
    let early = fresh(&appliance)?.connect(&connect.io(cntlid, 1, 31))?.status();
    expect("an I/O queue before CC.EN", early, code::CONNECT_INVALID_PARAMETERS)?;
    let mut io = fresh(&appliance)?;
    queue.enable()?;
    io.connect(&connect.io(cntlid, 1, 31))?.ok()?;
    for (what, status) in [
        ("a second Connect on an I/O queue", io.connect(&connect.io(cntlid, 1, 31))?.status()),
        ("a Connect of another queue", io.connect(&connect.io(cntlid, 2, 31))?.status()),
    ] {
        expect(what, status, code::SEQUENCE_ERROR)?;
    }
    let property = io.property_get(Property::Csts)?.status();
    ensure!(!property.is_success(), "properties belong to the Admin Queue: {property}");
    io.flush(1)?.ok()?;
    // A reset of the controller takes its I/O queues along.
    queue.property_set(Property::Cc, 0)?.ok()?;
    io.connection().expect_close()?;
    appliance.works_for("good", &share, 8)?;
    appliance.stop()
}

/// A write in flight whose R2T is not answered yet.
fn held_write(session: &mut Session) -> Result<holdfast_testkit::wire::R2t> {
    let sqe = Io::at(16, 4).sqe(opcode::WRITE, 1);
    session.io(1).hold_r2ts(true);
    session.io(1).submit(Command::with_data(sqe, vec![6; 4 * BLOCK]).placed(Placement::Solicited))?;
    Ok(session.io(1).next_r2t()?)
}

#[test]
fn a_command_identifier_in_use_is_a_conflict_and_the_first_command_goes_on() -> Result<()> {
    let (appliance, share) = appliance("hostile_cid")?;
    let mut session = appliance.session("good", &share, Options::default())?;
    let r2t = held_write(&mut session)?;
    let twin = Sqe::new(opcode::FLUSH).with_nsid(1).with_cid(r2t.cccid).sgl_transport(0);
    session.io(1).connection().send(&Pdu::CapsuleCmd { sqe: twin, data: Vec::new() })?;
    let Pdu::CapsuleResp(cqe) = session.io(1).connection().recv()? else { anyhow::bail!("no response") };
    ensure!(cqe.cid == r2t.cccid && cqe.status.pair() == code::ID_CONFLICT, "{cqe:?}");
    session.io(1).answer_r2t(&r2t)?;
    session.io(1).wait(r2t.cccid)?.ok()?;
    let back = session.io(1).read(1, &Io::at(16, 4), 4 * BLOCK)?.ok()?.data;
    ensure!(back == vec![6; 4 * BLOCK]);
    session.close()?;
    appliance.stop()
}

#[test]
fn more_commands_than_the_queue_holds_end_the_connection() -> Result<()> {
    let (appliance, share) = appliance("hostile_overrun")?;
    let before = appliance.process(Plane::Data)?;
    let mut session = appliance.session("good", &share, Options::default().queue_size(4))?;
    session.io(1).hold_r2ts(true);
    for lba in 0..8 {
        let sqe = Io::at(lba, 1).sqe(opcode::WRITE, 1);
        let command = Command::with_data(sqe, vec![6; BLOCK]).placed(Placement::Solicited);
        if session.io(1).submit(command).is_err() {
            break;
        }
    }
    let term = session.io(1).connection().expect_term_req()?;
    ensure!(term.fes == fes::SEQUENCE_ERROR, "{term}");
    appliance.works_for("good", &share, 8)?;
    appliance.same_target(before)?;
    appliance.stop()
}

#[test]
fn admin_commands_that_ask_for_what_cannot_be_are_refused() -> Result<()> {
    let (appliance, share) = appliance("hostile_admin")?;
    let before = appliance.process(Plane::Data)?;
    let mut session = appliance.session("good", &share, Options::default())?;
    let admin = session.admin();
    let log = |lid: u32| Sqe::new(opcode::GET_LOG_PAGE).with_nsid(u32::MAX).cdw(10, 0x03ff_0000 | lid);
    let identify = |cns: u32| Sqe::new(opcode::IDENTIFY).with_nsid(1).cdw(10, cns);
    let get = |fid: u32| Sqe::new(opcode::GET_FEATURES).cdw(10, fid);
    let set = |fid: u32| Sqe::new(opcode::SET_FEATURES).cdw(10, fid);
    let property = |offset: u32, size: u32| Sqe::fabrics(opcode::PROPERTY_GET).cdw(10, size).cdw(11, offset);
    let cases = [
        ("a log page that does not exist", log(0x55), 4096, code::INVALID_LOG_PAGE),
        ("the discovery log of an NVM subsystem", log(0x70), 4096, code::INVALID_LOG_PAGE),
        (
            "4 GiB of a log page",
            log(0x02).cdw(10, 0xffff_0002).cdw(11, 0x3fff),
            u32::MAX,
            code::INVALID_FIELD,
        ),
        (
            "16 GiB of a log page",
            log(0x02).cdw(10, 0xffff_0002).cdw(11, 0xffff),
            u32::MAX,
            code::INVALID_FIELD,
        ),
        (
            "a log page beyond 2^64",
            log(0x02).cdw(12, 0xffff_fffc).cdw(13, 0xffff_ffff),
            4096,
            code::INVALID_FIELD,
        ),
        ("a log page off the dword", log(0x02).cdw(12, 2), 4096, code::INVALID_FIELD),
        ("a log page into too short a buffer", log(0x02), 512, code::DATA_SGL_LENGTH_INVALID),
        ("a CNS that does not exist", identify(0xee), 4096, code::INVALID_FIELD),
        ("Identify into too short a buffer", identify(0x01), 4095, code::DATA_SGL_LENGTH_INVALID),
        ("Identify of NSID 0", identify(0x00).with_nsid(0), 4096, code::INVALID_NAMESPACE),
        ("Identify of NSID 1025", identify(0x00).with_nsid(1025), 4096, code::INVALID_NAMESPACE),
        ("the list after NSID FFFFFFFFh", identify(0x02).with_nsid(u32::MAX), 4096, code::INVALID_NAMESPACE),
        ("a feature that does not exist", get(0xef), 0, code::INVALID_FIELD),
        ("a feature that does not exist, to be set", set(0xef), 0, code::INVALID_FIELD),
        ("65536 queues", set(0x07).cdw(11, 0xffff_ffff), 0, code::INVALID_FIELD),
        ("a property that does not exist", property(0x1000, 0), 0, code::INVALID_FIELD),
        ("a property between two", property(0x16, 0), 0, code::INVALID_FIELD),
        ("half of CAP", property(0x00, 0), 0, code::INVALID_FIELD),
        ("VS, to be set", Sqe::fabrics(opcode::PROPERTY_SET).cdw(11, 0x08), 0, code::INVALID_FIELD),
    ];
    for (what, sqe, len, pair) in cases {
        let done = admin.run(Command::bare(sqe.sgl_transport(len)).keep_sgl()).context(what)?;
        expect(what, done.status(), pair)?;
    }
    let events: Vec<u16> = (0..4).map(|_| admin.submit_async_event()).collect::<Result<_, _>>()?;
    let fifth = admin.submit_async_event()?;
    expect("a fifth request for events", admin.wait(fifth)?.status(), code::AER_LIMIT_EXCEEDED)?;
    for event in events {
        ensure!(admin.abort(0, event)?.ok()?.cqe.dw0 & 1 == 0, "an event request is aborted");
        let aborted = admin.wait(event)?.status();
        ensure!(aborted.pair() == code::ABORT_REQUESTED, "{aborted}");
    }
    for (sqid, cid) in [(0, 0xffff), (1, 7), (0xffff, 0)] {
        let done = admin.abort(sqid, cid)?;
        let nothing = !done.status().is_success() || done.cqe.dw0 & 1 == 1;
        ensure!(nothing, "queue {sqid} has no command {cid:#x}: {:?}", done.cqe);
    }
    session.close()?;
    appliance.same_target(before)?;
    appliance.stop()
}
