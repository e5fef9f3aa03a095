//! Lists of what is supported, held against what really is. NVM Express Base 2.1 §5.1.12.1.1 "Supported Log Pages",
//! §5.1.12.1.6 "Commands Supported and Effects", §5.1.12.1.18 "Feature Identifiers Supported and Effects".

use anyhow::{Result, ensure};
use holdfast_testkit::wire::{Sqe, code, opcode};
use holdfast_testkit::{Command, Io, LogPage, Options, Session};

use super::{lid, read};
use crate::admin::admin_session;
use crate::fields::{bit, done, le32};
use crate::{Case, Format, Lab, View};

const COMMANDS: &str = "Base 2.1 §5.1.12.1.6 \"Commands Supported and Effects (Log Page Identifier 05h)\"";
const PAGES: &str = "Base 2.1 §5.1.12.1.1 \"Supported Log Pages (Log Page Identifier 00h)\"";
const FEATURES: &str =
    "Base 2.1 §5.1.12.1.18 \"Feature Identifiers Supported and Effects (Log Page Identifier 12h)\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "logs.effects.admin", clause: COMMANDS, run: admin_commands_are_as_listed },
    Case { id: "logs.effects.io", clause: COMMANDS, run: io_commands_are_as_listed },
    Case { id: "logs.effects.content", clause: COMMANDS, run: commands_that_write_say_so },
    Case { id: "logs.effects.command-set", clause: COMMANDS, run: the_nvm_command_set_can_be_asked_for },
    Case { id: "logs.supported.pages", clause: PAGES, run: pages_are_as_listed },
    Case { id: "logs.features.listed", clause: FEATURES, run: features_are_as_listed },
    Case { id: "logs.features.scope", clause: FEATURES, run: features_have_their_scope },
];

fn effects(session: &mut Session) -> Result<Vec<u8>> {
    read(session, &LogPage::new(lid::EFFECTS, 4096).nsid(u32::MAX))
}

/// CSUPP is bit 0. Asynchronous Event Request would wait, and Fabrics commands are no Admin commands.
fn admin_commands_are_as_listed(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let listed = effects(&mut session)?;
    for opcode in 0..=255_u8 {
        if matches!(opcode, opcode::ASYNC_EVENT | opcode::FABRICS) {
            continue;
        }
        let completion = session.admin().run(Command::bare(Sqe::new(opcode)))?;
        let known = completion.status().pair() != code::INVALID_OPCODE;
        let supported = bit(le32(&listed, usize::from(opcode) * 4)?, 0);
        ensure!(
            known == supported,
            "opcode {opcode:02x}h: listed {supported}, ended with {}",
            completion.status()
        );
    }
    ensure!(bit(le32(&listed, usize::from(opcode::ASYNC_EVENT) * 4)?, 0), "no Asynchronous Event Request");
    Ok(())
}

fn io_commands_are_as_listed(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(Format::STANDARD)?;
    let mut session = lab.open_as("plain", &share, View::Plain, Options::default())?;
    let listed = effects(&mut session)?;
    for opcode in 0..=255_u8 {
        if opcode == opcode::FABRICS {
            continue;
        }
        let completion = session.io(1).run(Command::bare(Io::at(0, 1).sqe(opcode, 1)))?;
        let known = completion.status().pair() != code::INVALID_OPCODE;
        let supported = bit(le32(&listed, 1024 + usize::from(opcode) * 4)?, 0);
        ensure!(
            known == supported,
            "opcode {opcode:02x}h: listed {supported}, ended with {}",
            completion.status()
        );
    }
    Ok(())
}

/// LBCC is bit 1.
fn commands_that_write_say_so(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let listed = effects(&mut session)?;
    for opcode in [0x01, 0x04, 0x08, 0x09, 0x19_u8] {
        let entry = le32(&listed, 1024 + usize::from(opcode) * 4)?;
        ensure!(!bit(entry, 0) || bit(entry, 1), "opcode {opcode:02x}h changes blocks, and LBCC is clear");
    }
    for opcode in [0x00, 0x02, 0x05, 0x0c_u8] {
        let entry = le32(&listed, 1024 + usize::from(opcode) * 4)?;
        ensure!(!bit(entry, 1), "opcode {opcode:02x}h changes no block, and LBCC is set");
    }
    for opcode in [opcode::IDENTIFY, opcode::GET_LOG_PAGE, opcode::GET_FEATURES, opcode::KEEP_ALIVE] {
        let entry = le32(&listed, usize::from(opcode) * 4)?;
        ensure!(entry >> 1 & 0b1111 == 0, "opcode {opcode:02x}h has effects {entry:#x}");
    }
    Ok(())
}

fn the_nvm_command_set_can_be_asked_for(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let plain = effects(&mut session)?;
    let of_nvm = read(&mut session, &LogPage::new(lid::EFFECTS, 4096).nsid(u32::MAX).csi(0))?;
    ensure!(plain == of_nvm, "CSI 0 is another list");
    Ok(())
}

/// LSUPP is bit 0.
fn pages_are_as_listed(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let listed = read(&mut session, &LogPage::new(lid::SUPPORTED, 1024))?;
    for lid in 0..=255_u8 {
        let page = LogPage::new(lid, 64).nsid(u32::MAX).retain();
        // Persistent events: establish a context and read.
        let page = if lid == lid::PERSISTENT_EVENTS { page.lsp(1) } else { page };
        let completion = session.admin().log_page(&page)?;
        let known = completion.status().pair() != code::INVALID_LOG_PAGE;
        let supported = bit(le32(&listed, usize::from(lid) * 4)?, 0);
        ensure!(known == supported, "LID {lid:02x}h: listed {supported}, ended with {}", completion.status());
        if supported {
            done(&completion)?;
        }
    }
    Ok(())
}

/// FSUPP is bit 0. Features that need a namespace or a buffer get them.
fn features_are_as_listed(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let listed = read(&mut session, &LogPage::new(lid::FEATURES, 1024))?;
    for fid in 0..=255_u8 {
        let exhid = u32::from(fid == 0x81);
        let sqe = Sqe::new(opcode::GET_FEATURES).with_nsid(u32::from(fid == 0x05)).cdw(10, fid.into());
        let len = match fid {
            0x81 => 16,
            0x16 => 512,
            _ => 0,
        };
        let completion = session.admin().run(Command::reading(sqe.cdw(11, exhid), len))?;
        let known = completion.status().pair() != code::INVALID_FIELD;
        let supported = bit(le32(&listed, usize::from(fid) * 4)?, 0);
        ensure!(
            known == supported,
            "feature {fid:02x}h: listed {supported}, ended with {}",
            completion.status()
        );
    }
    Ok(())
}

/// FSP: bit 20 namespace scope, bit 21 controller scope.
fn features_have_their_scope(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let listed = read(&mut session, &LogPage::new(lid::FEATURES, 1024))?;
    for fid in [0x01, 0x02, 0x04, 0x05, 0x06, 0x07, 0x0a, 0x0b, 0x0f, 0x16, 0x81_u8] {
        let entry = le32(&listed, usize::from(fid) * 4)?;
        let expected = if fid == 0x05 { 0b01 } else { 0b10 };
        let scope = entry >> 20;
        ensure!(!bit(entry, 0) || scope == 0 || scope == expected, "feature {fid:02x}h has scope {scope:#b}");
    }
    Ok(())
}
