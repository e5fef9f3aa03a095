//! Where a command's data is. NVMe/TCP 1.1 §3.3.2 "Command Data Buffers and SGLs"; NVMe Base 2.1 §4.3.2 "Scatter Gather
//! List (SGL)", §4.1.1 "Admin Command and I/O Command Common SQE" (PSDT).

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{Pdu, Sqe, code, le32, opcode};
use holdfast_testkit::{Command, Completion, Io, Options, Placement, Queue};

use crate::{Case, Lab, check};

const BUFFERS: &str = "NVMe/TCP 1.1 §3.3.2 \"Command Data Buffers and SGLs\"";
const SGL: &str = "NVMe Base 2.1 §4.3.2 \"Scatter Gather List (SGL)\"";
const PSDT: &str = "NVMe Base 2.1 §4.1.1 \"Common Command Format\", field PSDT";
const OFFSET: &str = "NVMe Base 2.1 §3.3.2.1.3 \"Data Transfers\"";
const IDENTIFY: &str = "NVMe Base 2.1 §5.1.13.2.1 \"Identify Controller\", fields SGLS, MSDBD";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("transport.sgl.psdt-prp", PSDT, prps_are_an_invalid_field),
    Case::new("transport.sgl.psdt-reserved", PSDT, the_reserved_value_is_an_invalid_field),
    Case::new("transport.sgl.psdt-fabrics", PSDT, fabrics_commands_use_sgls_too),
    Case::new("transport.sgl.type-read", BUFFERS, other_descriptors_of_a_read_are_refused),
    Case::new("transport.sgl.type-write", BUFFERS, other_descriptors_of_a_write_are_refused),
    Case::new("transport.sgl.type-admin", BUFFERS, other_descriptors_of_an_admin_command_are_refused),
    Case::new("transport.sgl.subtype", BUFFERS, other_sub_types_are_refused),
    Case::new("transport.sgl.offset", OFFSET, an_offset_beyond_the_capsule_is_invalid),
    Case::new("transport.sgl.offset-for-read", BUFFERS, data_to_the_host_never_is_in_a_capsule),
    Case::new("transport.sgl.capsule-longer-than-data", SGL, a_length_beyond_the_capsule_is_invalid),
    Case::new("transport.sgl.capsule-without-data", SGL, an_empty_capsule_cannot_have_in_capsule_data),
    Case::new("transport.sgl.stray-capsule-data", SGL, capsule_data_that_no_descriptor_names_is_not_written),
    Case::new("transport.sgl.write-short", SGL, a_write_with_too_short_a_buffer_is_invalid),
    Case::new("transport.sgl.write-short-in-capsule", SGL, a_write_with_too_little_in_its_capsule_is_invalid),
    Case::new("transport.sgl.read-short", SGL, a_read_with_too_short_a_buffer_is_invalid),
    Case::new("transport.sgl.identify-short", SGL, an_identify_with_too_short_a_buffer_is_invalid),
    Case::new("transport.sgl.zero", SGL, no_buffer_where_data_is_needed_is_invalid),
    Case::new("transport.sgl.longer", SGL, longer_buffers_are_as_sgls_says),
    Case::new("transport.sgl.no-data-command", SGL, commands_without_data_have_no_use_for_a_buffer),
    Case::new("transport.sgl.identified", IDENTIFY, the_controller_says_what_this_transport_supports),
    Case::new("transport.sgl.refusal-keeps-connection", BUFFERS, a_refused_descriptor_fails_only_its_command),
];

/// All descriptors that NVMe/TCP does not know: data blocks by address, bit buckets, segments, keyed ones, others.
const OTHER_TYPES: [u8; 14] =
    [0x00, 0x0a, 0x10, 0x11, 0x20, 0x21, 0x30, 0x31, 0x40, 0x4f, 0x60, 0x90, 0xe1, 0xf0];

fn read(at: &Io) -> Sqe {
    at.sqe(opcode::READ, 1)
}

fn write(at: &Io) -> Sqe {
    at.sqe(opcode::WRITE, 1)
}

/// Runs a command whose SGL1 is the test's own, with nothing in its capsule and no data expected.
fn bare(queue: &mut Queue, sqe: Sqe) -> Result<Completion> {
    Ok(queue.run(Command::bare(sqe).keep_sgl())?)
}

fn prps_are_an_invalid_field(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let at = Io::at(10, 1);
    for sqe in [read(&at).sgl_transport(4096).flags(0), read(&at).flags(0).sgl(0x1000, 0, 0)] {
        check::status(&bare(session.io(1), sqe)?, code::INVALID_FIELD).context("Read")?;
    }
    let identify = Sqe::new(opcode::IDENTIFY).cdw(10, 1).sgl_transport(4096).flags(0);
    check::status(&bare(session.admin(), identify)?, code::INVALID_FIELD).context("Identify")
}

fn the_reserved_value_is_an_invalid_field(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let sqe = read(&Io::at(10, 1)).sgl_transport(4096).flags(0xc0);
    check::status(&bare(session.io(1), sqe)?, code::INVALID_FIELD).context("Read")?;
    let identify = Sqe::new(opcode::IDENTIFY).cdw(10, 1).sgl_transport(4096).flags(0xc0);
    check::status(&bare(session.admin(), identify)?, code::INVALID_FIELD).context("Identify")
}

/// Byte 1 is reserved in Property Get and Set, which have no data: whatever stands there, they work.
fn fabrics_commands_use_sgls_too(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for flags in [0x00, 0x40] {
        let sqe = Sqe::fabrics(opcode::PROPERTY_GET).flags(flags).cdw(11, 0x08);
        bare(session.admin(), sqe)?.ok().with_context(|| format!("byte 1 is {flags:#04x}"))?;
    }
    Ok(())
}

fn other_descriptors_of_a_read_are_refused(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for identifier in OTHER_TYPES {
        let sqe = read(&Io::at(10, 1)).sgl(0, 4096, identifier);
        check::status(&bare(session.io(1), sqe)?, code::SGL_TYPE_INVALID)
            .with_context(|| format!("identifier {identifier:#04x}"))?;
    }
    Ok(())
}

fn other_descriptors_of_a_write_are_refused(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for identifier in OTHER_TYPES {
        let sqe = write(&Io::at(10, 1)).sgl(0, 4096, identifier);
        check::status(&bare(session.io(1), sqe)?, code::SGL_TYPE_INVALID)
            .with_context(|| format!("identifier {identifier:#04x}"))?;
        let command = Command::with_data(sqe, vec![7; 4096]).placed(Placement::InCapsule).keep_sgl();
        check::status(&session.io(1).run(command)?, code::SGL_TYPE_INVALID)
            .with_context(|| format!("identifier {identifier:#04x} with data in the capsule"))?;
    }
    Ok(())
}

fn other_descriptors_of_an_admin_command_are_refused(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for identifier in OTHER_TYPES {
        let sqe = Sqe::new(opcode::IDENTIFY).cdw(10, 1).sgl(0, 4096, identifier);
        check::status(&bare(session.admin(), sqe)?, code::SGL_TYPE_INVALID)
            .with_context(|| format!("identifier {identifier:#04x}"))?;
    }
    Ok(())
}

fn other_sub_types_are_refused(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for identifier in [0x02, 0x0f, 0x50, 0x51, 0x59, 0x5b, 0x5f] {
        let sqe = read(&Io::at(10, 1)).sgl(0, 4096, identifier);
        check::status(&bare(session.io(1), sqe)?, code::SGL_TYPE_INVALID)
            .with_context(|| format!("identifier {identifier:#04x}"))?;
    }
    Ok(())
}

fn an_offset_beyond_the_capsule_is_invalid(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let at = Io::at(11, 1);
    session.io(1).write(1, &at, &[1; 4096])?.ok()?;
    for offset in [8196, 16_384, 1 << 32, u64::MAX - 4095, u64::MAX] {
        let sqe = write(&at).sgl_in_capsule(offset, 4096);
        let command = Command::with_data(sqe, vec![2; 8192]).placed(Placement::InCapsule).keep_sgl();
        check::status(&session.io(1).run(command)?, code::SGL_OFFSET_INVALID)
            .with_context(|| format!("offset {offset:#x}"))?;
    }
    // Begins within the capsule, or where it ends, and ends behind it: offset or length is wrong.
    for offset in [4100, 8192] {
        let sqe = write(&at).sgl_in_capsule(offset, 4096);
        let command = Command::with_data(sqe, vec![2; 8192]).placed(Placement::InCapsule).keep_sgl();
        let done = session.io(1).run(command)?;
        check::status_among(&done, &[code::SGL_OFFSET_INVALID, code::DATA_SGL_LENGTH_INVALID])?;
    }
    let back = session.io(1).read(1, &at, 4096)?.ok()?.data;
    ensure!(back == [1; 4096], "a refused write was stored");
    Ok(())
}

fn data_to_the_host_never_is_in_a_capsule(lab: &mut Lab) -> Result<()> {
    let allowed = [
        code::SGL_TYPE_INVALID,
        code::INVALID_FIELD,
        code::DATA_SGL_LENGTH_INVALID,
        code::SGL_OFFSET_INVALID,
    ];
    let mut session = lab.session(Options::default())?;
    let sqe = read(&Io::at(10, 1)).sgl_in_capsule(0, 4096);
    check::status_among(&bare(session.io(1), sqe)?, &allowed).context("Read")?;
    let sqe = Sqe::new(opcode::IDENTIFY).cdw(10, 1).sgl_in_capsule(0, 4096);
    check::status_among(&bare(session.admin(), sqe)?, &allowed).context("Identify")
}

fn a_length_beyond_the_capsule_is_invalid(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for (sent, said) in [(4096, 8192), (4096, 4100), (512, 4096), (4096, 1 << 20), (4096, u32::MAX)] {
        let sqe = write(&Io::at(10, 2)).sgl_in_capsule(0, said);
        let command = Command::with_data(sqe, vec![3; sent]).placed(Placement::InCapsule).keep_sgl();
        let done = session.io(1).run(command)?;
        check::status_among(&done, &[code::DATA_SGL_LENGTH_INVALID, code::SGL_OFFSET_INVALID])
            .with_context(|| format!("{said} bytes said, {sent} sent"))?;
    }
    Ok(())
}

fn an_empty_capsule_cannot_have_in_capsule_data(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let done = bare(session.io(1), write(&Io::at(10, 1)).sgl_in_capsule(0, 4096))?;
    check::status_among(&done, &[code::DATA_SGL_LENGTH_INVALID, code::SGL_OFFSET_INVALID])
}

/// The descriptor says that the data is to be asked for, and data lies in the capsule: refused, or asked for.
fn capsule_data_that_no_descriptor_names_is_not_written(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let at = Io::at(15, 1);
    session.io(1).write(1, &at, &[1; 4096])?.ok()?;
    let connection = session.io(1).connection();
    let sqe = write(&at).with_cid(9).sgl_transport(4096);
    connection.send(&Pdu::CapsuleCmd { sqe, data: vec![2; 4096] })?;
    match connection.recv()? {
        Pdu::CapsuleResp(cqe) => ensure!(!cqe.status.is_success(), "stray data was written"),
        Pdu::R2t(_) | Pdu::C2hTermReq(_) => {}
        other => anyhow::bail!("{}", other.name()),
    }
    let back = lab.session(Options::default())?.io(1).read(1, &at, 4096)?.ok()?.data;
    ensure!(back == [1; 4096], "stray data was stored");
    Ok(())
}

fn a_write_with_too_short_a_buffer_is_invalid(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for length in [1, 4, 512, 4092, 4095, 8 * 4096 - 4, 7 * 4096] {
        let done = bare(session.io(1), write(&Io::at(10, 8)).sgl_transport(length))?;
        check::status(&done, code::DATA_SGL_LENGTH_INVALID).with_context(|| format!("{length} bytes"))?;
        check::same("R2Ts", done.trace.r2ts, 0)?;
    }
    Ok(())
}

fn a_write_with_too_little_in_its_capsule_is_invalid(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for length in [4, 512, 4092, 4096, 8188] {
        let command = Command::with_data(write(&Io::at(10, 2)), vec![5; length]).placed(Placement::InCapsule);
        check::status(&session.io(1).run(command)?, code::DATA_SGL_LENGTH_INVALID)
            .with_context(|| format!("{length} bytes"))?;
    }
    Ok(())
}

fn a_read_with_too_short_a_buffer_is_invalid(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for length in [1, 4, 512, 4092, 4095, 8 * 4096 - 4, 7 * 4096] {
        let done = bare(session.io(1), read(&Io::at(10, 8)).sgl_transport(length))?;
        check::status(&done, code::DATA_SGL_LENGTH_INVALID).with_context(|| format!("{length} bytes"))?;
    }
    Ok(())
}

fn an_identify_with_too_short_a_buffer_is_invalid(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for length in [4, 512, 4092] {
        let done = bare(session.admin(), Sqe::new(opcode::IDENTIFY).cdw(10, 1).sgl_transport(length))?;
        check::status(&done, code::DATA_SGL_LENGTH_INVALID).with_context(|| format!("{length} bytes"))?;
    }
    Ok(())
}

fn no_buffer_where_data_is_needed_is_invalid(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for sqe in [read(&Io::at(10, 1)), write(&Io::at(10, 1))] {
        let done = bare(session.io(1), sqe.sgl_transport(0))?;
        check::status(&done, code::DATA_SGL_LENGTH_INVALID).with_context(|| format!("{sqe:?}"))?;
    }
    let done = bare(session.io(1), write(&Io::at(10, 1)).sgl_in_capsule(0, 0))?;
    check::status(&done, code::DATA_SGL_LENGTH_INVALID).context("an in-capsule length of zero")
}

/// SGLS bit 18: whether lengths beyond the data are taken. Where they are, only the data is moved.
fn longer_buffers_are_as_sgls_says(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let supported = sgls(&session.controller().raw)? & 1 << 18 != 0;
    let at = Io::at(12, 1);
    let command = Command::with_data(write(&at).sgl_transport(8192), vec![6; 8192]);
    let written = session.io(1).run(command.placed(Placement::Solicited).keep_sgl())?;
    let command = Command { read_len: 4096, ..Command::bare(read(&at).sgl_transport(8192)) };
    let back = session.io(1).run(command.keep_sgl())?;
    if supported {
        written.ok()?;
        ensure!(back.ok()?.data == [6; 4096], "read back something else");
        return Ok(());
    }
    check::status(&written, code::DATA_SGL_LENGTH_INVALID).context("Write")?;
    check::status(&back, code::DATA_SGL_LENGTH_INVALID).context("Read")
}

fn commands_without_data_have_no_use_for_a_buffer(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for sqe in [Sqe::new(opcode::FLUSH).with_nsid(1), Io::at(13, 4).sqe(opcode::WRITE_ZEROES, 1)] {
        for length in [0, 4096] {
            let done = bare(session.io(1), sqe.sgl_transport(length))?.ok()?;
            check::same("R2Ts and data PDUs", (done.trace.r2ts, done.trace.c2h_pdus), (0, 0))?;
        }
    }
    Ok(())
}

fn the_controller_says_what_this_transport_supports(lab: &mut Lab) -> Result<()> {
    let session = lab.session(Options::default())?;
    let raw = &session.controller().raw;
    let sgls = sgls(raw)?;
    ensure!([1, 2].contains(&(sgls & 3)), "SGLS {sgls:#x}: SGLs are not supported");
    ensure!(sgls & 1 << 2 == 0, "SGLS {sgls:#x}: keyed descriptors");
    ensure!(sgls & 1 << 20 != 0, "SGLS {sgls:#x}: no in-capsule offsets");
    ensure!(sgls & 1 << 21 != 0, "SGLS {sgls:#x}: no Transport SGL Data Block");
    check::same("MSDBD", raw.get(1803), Some(&1))
}

fn a_refused_descriptor_fails_only_its_command(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let at = Io::at(14, 8);
    let io = session.io(1);
    io.hold_r2ts(true);
    let cid = io.submit(Command::with_data(write(&at), vec![8; 8 * 4096]).placed(Placement::Solicited))?;
    let r2t = io.next_r2t()?;
    let done = bare(io, read(&at).sgl(0, 8 * 4096, 0x40))?;
    check::status(&done, code::SGL_TYPE_INVALID)?;
    io.answer_r2t(&r2t)?;
    io.wait(cid)?.ok()?;
    let back = io.read(1, &at, 8 * 4096)?.ok()?.data;
    ensure!(back == [8; 8 * 4096], "the write beside it went wrong");
    Ok(())
}

fn sgls(identify: &[u8]) -> Result<u32> {
    le32(identify, 536).context("SGLS")
}
