//! Header and data digests. NVMe/TCP 1.1 §3.3.1.1 "PDU Header and Data Digests", §3.5 "Digest Error handling".
//!
//! The scripted host demands a right digest on every PDU that it gets, and none where none was agreed.

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_testkit::wire::{Frame, Pdu, Sqe, code, fes, le32, opcode};
use holdfast_testkit::{Command, Connection, Io, Options, Placement, Session};

use super::r2t::{held, submit};
use crate::{Case, Lab, check};

const DIGESTS: &str = "NVMe/TCP 1.1 §3.3.1.1 \"PDU Header and Data Digests\"";
const ERRORS: &str = "NVMe/TCP 1.1 §3.5 \"Error Handling Model\", digest errors";
const FEI: &str = "NVMe/TCP 1.1 §3.6.2.5 \"C2HTermReq\", field FEI";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("transport.digest.all-ways", DIGESTS, every_combination_carries_every_transfer),
    Case::new("transport.digest.large", DIGESTS, large_transfers_are_covered),
    Case::new("transport.digest.admin", DIGESTS, the_admin_queue_has_them_too),
    Case::new("transport.digest.per-connection", DIGESTS, each_connection_agrees_for_itself),
    Case::new("transport.digest.header-capsule", ERRORS, a_bad_header_of_a_command_is_fatal),
    Case::new("transport.digest.header-every-bit", ERRORS, any_bit_of_a_header_is_covered),
    Case::new("transport.digest.header-h2c", ERRORS, a_bad_header_of_data_is_fatal),
    Case::new("transport.digest.header-fei", FEI, the_received_digest_is_told),
    Case::new("transport.digest.header-admin", ERRORS, a_bad_header_on_the_admin_queue_is_fatal),
    Case::new("transport.digest.data-capsule", ERRORS, bad_data_in_a_capsule_fails_its_command),
    Case::new("transport.digest.data-h2c", ERRORS, bad_data_of_a_pdu_fails_its_command),
    Case::new("transport.digest.data-first-of-many", ERRORS, one_bad_pdu_among_many_fails_the_command),
    Case::new("transport.digest.data-bit", ERRORS, a_flipped_bit_of_data_is_noticed),
    Case::new("transport.digest.data-others-unhurt", ERRORS, other_commands_go_on),
    Case::new("transport.digest.data-admin", ERRORS, bad_data_of_an_admin_command_fails_it),
    Case::new("transport.digest.data-connect", ERRORS, bad_connect_data_makes_no_queue),
    Case::new("transport.digest.no-retry-bit", ERRORS, the_host_may_try_again),
];

const ALL: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];
const AT: u64 = 2100;

fn write(placement: Placement, data: Vec<u8>) -> Result<Command> {
    let blocks = u32::try_from(data.len() / 4096)?;
    Ok(Command::with_data(Io::at(AT, blocks).sqe(opcode::WRITE, 1), data).placed(placement))
}

fn stored(session: &mut Session, expected: &[u8]) -> Result<()> {
    let blocks = u32::try_from(expected.len() / 4096)?;
    let back = session.io(1).read(1, &Io::at(AT, blocks), expected.len())?.ok()?.data;
    ensure!(back == expected, "stored something else");
    Ok(())
}

fn every_combination_carries_every_transfer(lab: &mut Lab) -> Result<()> {
    for (header, data) in ALL {
        let mut session = lab.session(Options::default().digests(header, data))?;
        for (placement, blocks) in [
            (Placement::InCapsule, 1),
            (Placement::InCapsule, 2),
            (Placement::Solicited, 1),
            (Placement::Solicited, 40),
        ] {
            let bytes = check::pattern(blocks, usize::try_from(blocks)? * 4096);
            session.io(1).run(write(placement, bytes.clone())?)?.ok()?;
            stored(&mut session, &bytes)
                .with_context(|| format!("{header} {data} {placement:?} {blocks}"))?;
        }
        session.io(1).flush(1)?.ok()?;
        session.admin().identify(0x01, 0, 0)?.ok()?;
        session.close()?;
    }
    Ok(())
}

fn large_transfers_are_covered(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().digests(true, true))?;
    let bytes = check::pattern(3, 256 * 4096);
    session.io(1).run(write(Placement::Solicited, bytes.clone())?)?.ok()?;
    stored(&mut session, &bytes)
}

fn the_admin_queue_has_them_too(lab: &mut Lab) -> Result<()> {
    for (header, data) in ALL {
        let mut session = lab.session(Options::default().digests(header, data).io_queues(0))?;
        let digests = session.admin().connection().digests();
        check::same("digests", (digests.header, digests.data), (header, data))?;
        check::same("bytes of Identify", session.admin().identify(0x01, 0, 0)?.ok()?.data.len(), 4096)?;
    }
    Ok(())
}

fn each_connection_agrees_for_itself(lab: &mut Lab) -> Result<()> {
    let mut plain = lab.session(Options::default())?;
    let mut digested = lab.session(Options::default().digests(true, true))?;
    plain.io(1).run(write(Placement::Solicited, vec![1; 4096])?)?.ok()?;
    stored(&mut digested, &[1; 4096])?;
    digested.io(1).run(write(Placement::InCapsule, vec![2; 4096])?)?.ok()?;
    stored(&mut plain, &[2; 4096])
}

/// Demands what follows a bad header digest: FEI is the digest as it came.
fn fatal(connection: &mut Connection, frame: &Frame, header_len: usize) -> Result<()> {
    let came = le32(frame.as_bytes(), header_len);
    connection.send_frame(frame)?;
    check::term_req(connection, frame, fes::HEADER_DIGEST, came)?;
    Ok(())
}

fn flush() -> Pdu {
    Pdu::CapsuleCmd { sqe: Sqe::new(opcode::FLUSH).with_nsid(1).sgl_transport(0), data: Vec::new() }
}

fn a_bad_header_of_a_command_is_fatal(lab: &mut Lab) -> Result<()> {
    for data in [false, true] {
        let mut session = lab.session(Options::default().digests(true, data))?;
        let connection = session.io(1).connection();
        let frame = connection.encode(&flush()).flip_bit(72 * 8 + 3);
        fatal(connection, &frame, 72)?;
    }
    Ok(())
}

/// All but the bytes that are needed to find the digest.
fn any_bit_of_a_header_is_covered(lab: &mut Lab) -> Result<()> {
    for byte in [3, 8, 9, 10, 12, 31, 32, 47, 48, 63, 71] {
        let mut session = lab.session(Options::default().digests(true, false))?;
        let connection = session.io(1).connection();
        let frame = connection.encode(&flush()).flip_bit(byte * 8 + 6);
        fatal(connection, &frame, 72).with_context(|| format!("a bit of byte {byte}"))?;
    }
    Ok(())
}

fn a_bad_header_of_data_is_fatal(lab: &mut Lab) -> Result<()> {
    for bit in [8 * 8, 10 * 8 + 1, 12 * 8 + 2, 16 * 8 + 3, 20 * 8 + 4, 24 * 8 + 5] {
        let (mut session, _, r2t) = held(lab, Options::default().digests(true, true), AT, vec![1; 8 * 4096])?;
        let pdu = session.io(1).h2c_data(&r2t, 0, 8 * 4096, true)?;
        let connection = session.io(1).connection();
        let frame = connection.encode(&Pdu::H2cData(pdu)).flip_bit(bit);
        fatal(connection, &frame, 24).with_context(|| format!("bit {bit}"))?;
    }
    Ok(())
}

fn the_received_digest_is_told(lab: &mut Lab) -> Result<()> {
    for digest in [0, 1, 0x8000_0000, 0xdead_beef, u32::MAX] {
        let mut session = lab.session(Options::default().digests(true, false))?;
        let connection = session.io(1).connection();
        let frame = connection.encode(&flush()).put(72, &digest.to_le_bytes());
        fatal(connection, &frame, 72).with_context(|| format!("digest {digest:#x}"))?;
    }
    Ok(())
}

fn a_bad_header_on_the_admin_queue_is_fatal(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().digests(true, false))?;
    let sqe = Sqe::new(opcode::KEEP_ALIVE).sgl_transport(0);
    let connection = session.admin().connection();
    let frame = connection.encode(&Pdu::CapsuleCmd { sqe, data: Vec::new() }).flip_bit(75 * 8);
    fatal(connection, &frame, 72)
}

/// A write whose first PDU with data has a bad digest fails, stores nothing, and leaves the queue as it was.
fn fails(lab: &mut Lab, header: bool, placement: Placement, blocks: usize) -> Result<()> {
    let mut session = lab.session(Options::default().digests(header, true))?;
    let (old, new) = (vec![0x33; blocks * 4096], vec![0x44; blocks * 4096]);
    session.io(1).run(write(placement, old.clone())?)?.ok()?;
    session.io(1).spoil_next_data_digest();
    let done = session.io(1).run(write(placement, new.clone())?)?;
    check::status(&done, code::TRANSIENT_TRANSPORT_ERROR)
        .with_context(|| format!("{placement:?} {blocks}"))?;
    stored(&mut session, &old)?;
    session.io(1).run(write(placement, new.clone())?)?.ok()?;
    stored(&mut session, &new)
}

fn bad_data_in_a_capsule_fails_its_command(lab: &mut Lab) -> Result<()> {
    for header in [false, true] {
        for blocks in [1, 2] {
            fails(lab, header, Placement::InCapsule, blocks)?;
        }
    }
    Ok(())
}

fn bad_data_of_a_pdu_fails_its_command(lab: &mut Lab) -> Result<()> {
    for header in [false, true] {
        for blocks in [1, 8, 256] {
            fails(lab, header, Placement::Solicited, blocks)?;
        }
    }
    Ok(())
}

fn one_bad_pdu_among_many_fails_the_command(lab: &mut Lab) -> Result<()> {
    for bad in [0, 3, 7] {
        let options = Options::default().digests(false, true);
        let (mut session, cid, r2t) = held(lab, options, AT, check::pattern(bad, 8 * 4096))?;
        let io = session.io(1);
        for piece in 0..8 {
            let pdu = io.h2c_data(&r2t, piece * 4096, (piece + 1) * 4096, piece == 7)?;
            let frame = io.connection().encode(&Pdu::H2cData(pdu));
            let frame = if u64::try_from(piece)? == bad { frame.spoil_last_byte() } else { frame };
            io.connection().send_frame(&frame)?;
        }
        check::status(&io.wait(cid)?, code::TRANSIENT_TRANSPORT_ERROR)
            .with_context(|| format!("piece {bad}"))?;
        io.flush(1)?.ok()?;
    }
    Ok(())
}

fn a_flipped_bit_of_data_is_noticed(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().digests(false, true))?;
    let connection = session.io(1).connection();
    for (cid, bit) in [(1, 72 * 8), (2, 72 * 8 + 17_000), (3, (72 + 4096) * 8 - 1), (4, (72 + 4096) * 8)] {
        let sqe = Io::at(AT, 1).sqe(opcode::WRITE, 1).with_cid(cid).sgl_in_capsule(0, 4096);
        let frame = connection.encode(&Pdu::CapsuleCmd { sqe, data: vec![5; 4096] }).flip_bit(bit);
        connection.send_frame(&frame)?;
        let Pdu::CapsuleResp(cqe) = connection.recv()? else { bail!("no response") };
        ensure!(cqe.cid == cid && cqe.status.pair() == code::TRANSIENT_TRANSPORT_ERROR, "bit {bit}: {cqe:?}");
    }
    Ok(())
}

fn other_commands_go_on(lab: &mut Lab) -> Result<()> {
    let options = Options::default().digests(true, true);
    let (mut session, cid, r2t) = held(lab, options, 2200, check::pattern(1, 8 * 4096))?;
    let io = session.io(1);
    io.spoil_next_data_digest();
    let bad = io.submit(write(Placement::InCapsule, vec![1; 4096])?)?;
    let second = submit(io, 2300, check::pattern(2, 8 * 4096))?;
    let other = io.next_r2t()?;
    io.answer_r2t(&other)?;
    io.answer_r2t(&r2t)?;
    check::status(&io.wait(bad)?, code::TRANSIENT_TRANSPORT_ERROR)?;
    io.wait(cid)?.ok()?;
    io.wait(second)?.ok()?;
    for (slba, seed) in [(2200, 1), (2300, 2)] {
        let back = io.read(1, &Io::at(slba, 8), 8 * 4096)?.ok()?.data;
        ensure!(back == check::pattern(seed, 8 * 4096), "block {slba}: stored something else");
    }
    Ok(())
}

/// Dataset Management and Set Features bring data of their own.
fn bad_data_of_an_admin_command_fails_it(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().digests(true, true))?;
    let sqe = Sqe::new(opcode::SET_FEATURES).cdw(10, 0x16);
    session.admin().spoil_next_data_digest();
    let done = session.admin().run(Command::with_data(sqe, vec![0; 512]).placed(Placement::InCapsule))?;
    check::status(&done, code::TRANSIENT_TRANSPORT_ERROR)?;
    session.admin().keep_alive()?.ok()?;
    Ok(())
}

fn bad_connect_data_makes_no_queue(lab: &mut Lab) -> Result<()> {
    let share = lab.share(crate::Format::STANDARD)?;
    let nqn = lab.admit("plain", &share, crate::View::Plain)?;
    let options = holdfast_testkit::ConnectOptions { data_digest: true, ..Default::default() };
    let mut queue = holdfast_testkit::Queue::new(lab.initialized(&options)?, 0);
    let connect =
        holdfast_testkit::ConnectCommand::admin(&nqn, holdfast_testkit::host_id_of(&nqn), &share.nqn);
    queue.spoil_next_data_digest();
    check::status(&queue.connect(&connect)?, code::TRANSIENT_TRANSPORT_ERROR)?;
    queue.connect(&connect)?.ok()?;
    queue.enable()?;
    Ok(())
}

fn the_host_may_try_again(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().digests(false, true))?;
    for placement in [Placement::InCapsule, Placement::Solicited] {
        session.io(1).spoil_next_data_digest();
        let done = session.io(1).run(write(placement, vec![1; 4096])?)?;
        check::status(&done, code::TRANSIENT_TRANSPORT_ERROR)?;
        ensure!(!done.status().dnr, "{placement:?}: Do Not Retry is set");
    }
    Ok(())
}
