//! Host Behavior Support. NVM Express Base 2.1 §5.1.25.1.14 "Host Behavior Support (Feature Identifier 16h)".

use anyhow::{Result, ensure};
use holdfast_testkit::wire::{Sqe, code, opcode};
use holdfast_testkit::{Command, Io, Options, Property, Session};

use super::{HOST_BEHAVIOR_LEN, Request, fid, host_behavior};
use crate::admin::admin_session;
use crate::check::same;
use crate::fields::{bit, byte, done, le16, refused, refused_among, zero};
use crate::{Case, Format, Guard, Lab, View};

const CLAUSE: &str = "Base 2.1 §5.1.25.1.14 \"Host Behavior Support (Feature Identifier 16h)\"";
const LBAFEE: &str = "NVM Command Set 1.1 §3.3 \"NVM Command Set Commands\", LBAFEE";

/// Offsets in the structure.
const ACRE: usize = 0;
const ETDAS: usize = 1;
const LBA_FORMATS: usize = 2;
const COPY_FORMATS: usize = 4;

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "features.host-behavior.default", clause: CLAUSE, run: nothing_is_enabled_at_first },
    Case { id: "features.host-behavior.read-back", clause: CLAUSE, run: what_is_enabled_is_read_back },
    Case { id: "features.host-behavior.reserved", clause: CLAUSE, run: reserved_values_do_not_stick },
    Case { id: "features.host-behavior.short", clause: CLAUSE, run: a_short_structure_is_refused },
    Case {
        id: "features.host-behavior.copy-formats",
        clause: CLAUSE,
        run: only_known_copy_formats_are_enabled,
    },
    Case { id: "features.host-behavior.reset", clause: CLAUSE, run: a_reset_disables_all },
    Case { id: "features.host-behavior.lbafee-off", clause: LBAFEE, run: extended_formats_are_shut_at_first },
    Case { id: "features.host-behavior.lbafee-on", clause: LBAFEE, run: extended_formats_can_be_opened },
    Case { id: "features.host-behavior.lbafee-plain", clause: LBAFEE, run: the_plain_view_is_not_extended },
    Case { id: "features.host-behavior.lbafee-crc16", clause: LBAFEE, run: sixteen_bit_guards_need_nothing },
];

fn read(session: &mut Session) -> Result<Vec<u8>> {
    let completion = Request::new(fid::HOST_BEHAVIOR).get(session)?;
    done(&completion)?;
    same("bytes", completion.data.len(), HOST_BEHAVIOR_LEN)?;
    Ok(completion.data)
}

fn nothing_is_enabled_at_first(lab: &mut Lab) -> Result<()> {
    let data = read(&mut admin_session(lab)?)?;
    zero("Host Behavior Support", &data, 0, data.len())
}

fn what_is_enabled_is_read_back(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for (acre, etdas, formats) in [(1, 1, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0)] {
        let command = host_behavior(&[(ACRE, acre), (ETDAS, etdas), (LBA_FORMATS, formats)]);
        done(&session.admin().run(command)?)?;
        let data = read(&mut session)?;
        let found = (byte(&data, ACRE)?, byte(&data, ETDAS)?, byte(&data, LBA_FORMATS)?);
        same("ACRE, ETDAS, LBAFEE", found, (acre, etdas, formats))?;
    }
    Ok(())
}

/// A reserved value is refused or ignored; it is never what the host finds enabled.
fn reserved_values_do_not_stick(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for at in [ACRE, ETDAS, LBA_FORMATS] {
        let completion = session.admin().run(host_behavior(&[(at, 2)]))?;
        if !completion.status().is_success() {
            refused(&completion, code::INVALID_FIELD)?;
        }
        ensure!(byte(&read(&mut session)?, at)? <= 1, "byte {at} holds a reserved value");
    }
    Ok(())
}

fn a_short_structure_is_refused(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let sqe = Sqe::new(opcode::SET_FEATURES).cdw(10, fid::HOST_BEHAVIOR.into());
    let completion = session.admin().run(Command::with_data(sqe, vec![0; 256]))?;
    refused(&completion, code::DATA_SGL_LENGTH_INVALID)
}

/// CDFE: formats 2h and 3h; CDFS says whether the controller has them.
fn only_known_copy_formats_are_enabled(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let supported = le16(&session.controller().raw, 534)?;
    for format in [2, 3] {
        let completion = session.admin().run(host_behavior(&[(COPY_FORMATS, 1 << format)]))?;
        if bit(supported, format) {
            done(&completion)?;
            same("CDFE", le16(&read(&mut session)?, COPY_FORMATS)?, 1 << format)?;
        } else {
            refused(&completion, code::INVALID_FIELD)?;
        }
    }
    Ok(())
}

fn a_reset_disables_all(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    done(&session.admin().run(host_behavior(&[(ACRE, 1), (LBA_FORMATS, 1)]))?)?;
    session.admin().property_set(Property::Cc, 0x0046_0000)?.ok()?;
    session.admin().enable()?;
    let data = read(&mut session)?;
    zero("Host Behavior Support", &data, 0, data.len())
}

const EXTENDED: Format = Format::new(4096, 1, Guard::Crc64);

/// Without LBAFEE every command that accesses data of such a namespace is aborted.
fn extended_formats_are_shut_at_first(lab: &mut Lab) -> Result<()> {
    let mut session = lab.open(EXTENDED, View::Pi, Options::default())?;
    let at = Io::at(0, 1);
    let io = session.io(1);
    let refusals = [code::INVALID_NAMESPACE, code::INVALID_FIELD];
    refused_among(&io.read(1, &at, 4112)?, &refusals)?;
    refused_among(&io.write(1, &at, &vec![0; 4112])?, &refusals)?;
    refused_among(&io.compare(1, &at, &vec![0; 4112])?, &refusals)?;
    refused_among(&io.verify(1, &at)?, &refusals)?;
    refused_among(&io.write_zeroes(1, &at)?, &refusals)?;
    Ok(())
}

fn extended_formats_can_be_opened(lab: &mut Lab) -> Result<()> {
    let mut session = lab.open(EXTENDED, View::Pi, Options::default())?;
    done(&session.admin().run(host_behavior(&[(LBA_FORMATS, 1)]))?)?;
    let data = session.namespace_format(1)?.pi().protect(
        &vec![0x3c; 4096],
        4096,
        holdfast_testkit::pi::Tags::counting(5),
    );
    let io = session.io(1);
    done(&io.write(1, &Io::at(5, 1).check_guard().check_ref().storage_and_ref(5), &data)?)?;
    same("read back", io.read(1, &Io::at(5, 1), 4112)?.ok()?.data == data, true)?;
    // And shut again.
    done(&session.admin().run(host_behavior(&[]))?)?;
    let completion = session.io(1).read(1, &Io::at(5, 1), 4112)?;
    refused_among(&completion, &[code::INVALID_NAMESPACE, code::INVALID_FIELD])
}

fn the_plain_view_is_not_extended(lab: &mut Lab) -> Result<()> {
    let mut session = lab.open(EXTENDED, View::Plain, Options::default())?;
    let io = session.io(1);
    done(&io.write(1, &Io::at(6, 1), &vec![1; 4096])?)?;
    done(&io.read(1, &Io::at(6, 1), 4096)?)
}

fn sixteen_bit_guards_need_nothing(lab: &mut Lab) -> Result<()> {
    let mut session = lab.open(Format::STANDARD, View::Pi, Options::default())?;
    done(&session.io(1).read(1, &Io::at(6, 1), 4104)?)
}
