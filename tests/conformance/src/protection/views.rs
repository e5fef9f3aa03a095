//! One volume seen by a host with tuples and by one without. The volume keeps tuples for both: what a host without them
//! writes gets tuples made, what it reads is checked. NVM Command Set 1.1 §5.3.2 "PRACT Bit" does the same per command.

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Io, Options, Session};

use super::{BAD_APP, BAD_GUARD, BLOCKS, Host, large, over_formats};
use crate::check::{pattern, same, status};
use crate::fields::{done, refused};
use crate::{Case, Format, Lab, View};

const CLAUSE: &str = "NVM Command Set 1.1 §5.3.2 \"PRACT Bit\" (insertion and stripping, decided by view)";
const IGNORED: &str = "NVM Command Set 1.1 §3.3.4 \"Read command\", PRINFO of a namespace without protection";

/// Written plain, read with tuples.
pub(crate) const FROM_PLAIN: &[Case] =
    &over_formats!("protection.views.from-plain", CLAUSE, plain_writes_get_tuples);
/// Written with tuples, read plain.
pub(crate) const FROM_PI: &[Case] = &over_formats!("protection.views.from-pi", CLAUSE, plain_reads_get_data);
/// Bad tuples and a host that sees none.
pub(crate) const BAD: &[Case] = &over_formats!("protection.views.bad-guard", CLAUSE, plain_reads_are_guarded);
/// PRINFO means nothing in the plain view.
pub(crate) const CASES: &[Case] = &[
    Case {
        id: "protection.views.prinfo-ignored",
        clause: IGNORED,
        run: prinfo_is_ignored_without_protection,
    },
    Case { id: "protection.views.require-pi", clause: CLAUSE, run: pract_is_refused_where_pi_is_required },
];

const LBA: u64 = 384;

fn plain(lab: &mut Lab, format: Format) -> Result<Session> {
    lab.open(format, View::Plain, Options::default())
}

/// Application tag 0, storage tag 0, reference tag the low LBA bits, or all ones for type 3.
fn plain_writes_get_tuples(lab: &mut Lab, format: Format) -> Result<()> {
    let (mut without, mut host) = (plain(lab, format)?, Host::open(lab, format)?);
    let data = pattern(111, host.block() * usize::try_from(BLOCKS)?);
    done(&without.io(1).write(1, &Io::at(LBA, BLOCKS), &data)?)?;
    let found = host.stored(LBA, BLOCKS)?;
    ensure!(host.data_of(&found) == data, "other data");
    for index in 0..BLOCKS {
        let tuple = host.tuple(&found, usize::try_from(index)?)?;
        let reference = if format.pi_type == 3 { u64::MAX } else { LBA + u64::from(index) };
        same("reference tag", u128::from(tuple.ref_tag), host.pi.space(0, reference))?;
        same("application tag", tuple.app_tag, 0)?;
        same("storage tag", tuple.storage_tag, 0)?;
    }
    let (io, len) = (Io::at(LBA, BLOCKS).check_guard(), host.len(BLOCKS));
    done(&host.io().read(1, &io, len)?).context("the guards made here")
}

fn plain_reads_get_data(lab: &mut Lab, format: Format) -> Result<()> {
    let (mut without, mut host) = (plain(lab, format)?, Host::open(lab, format)?);
    let blocks = host.blocks(112, LBA, BLOCKS);
    host.store(LBA, &blocks)?;
    let data = host.data_of(&blocks);
    let io = without.io(1);
    // Type 2 hosts choose their reference tags, so a host without tuples does not look at them.
    let completion = io.read(1, &Io::at(LBA, BLOCKS), data.len())?;
    done(&completion)?;
    ensure!(completion.data == data, "other data");
    done(&io.compare(1, &Io::at(LBA, BLOCKS), &data)?)?;
    done(&io.verify(1, &Io::at(LBA, BLOCKS))?)
}

fn plain_reads_are_guarded(lab: &mut Lab, format: Format) -> Result<()> {
    let (mut without, mut host) = (plain(lab, format)?, Host::open(lab, format)?);
    let mut blocks = host.blocks(113, LBA, BLOCKS);
    host.bend(&mut blocks, 2, BAD_APP.bend)?;
    host.store(LBA, &blocks)?;
    let len = host.data_of(&blocks).len();
    done(&without.io(1).read(1, &Io::at(LBA, BLOCKS), len)?).context("application tags are not looked at")?;
    host.bend(&mut blocks, 6, BAD_GUARD.bend)?;
    host.store(LBA, &blocks)?;
    status(&without.io(1).read(1, &Io::at(LBA, BLOCKS), len)?, code::GUARD_CHECK)?;
    status(&without.io(1).verify(1, &Io::at(LBA, BLOCKS))?, code::GUARD_CHECK).context("Verify")?;
    // An escape is honoured, whoever reads.
    host.bend(&mut blocks, 6, |tuple| (tuple.app_tag, tuple.ref_tag) = (0xffff, u64::MAX))?;
    host.store(LBA, &blocks)?;
    done(&without.io(1).read(1, &Io::at(LBA, BLOCKS), len)?).context("an escaped block")
}

fn prinfo_is_ignored_without_protection(lab: &mut Lab) -> Result<()> {
    let mut session = plain(lab, large(1))?;
    let data = pattern(114, 4096);
    let io = session.io(1);
    for at in [Io::at(LBA, 1).check_all().ref_tag(9), Io::at(LBA, 1).pract().check_storage().app_tag(3)] {
        done(&io.write(1, &at, &data)?)?;
        let completion = io.read(1, &at, data.len())?;
        done(&completion)?;
        ensure!(completion.data == data, "other data");
        done(&io.compare(1, &at, &data)?)?;
    }
    Ok(())
}

/// Enforce require-pi: no command may leave the tuples to the controller.
fn pract_is_refused_where_pi_is_required(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(large(1))?;
    lab.host("strict")?;
    let path = format!("/subsystems/{}/hosts/{}", share.name, lab.host_name("strict"));
    lab.rest().put(&path, &serde_json::json!({"view": "auto", "enforce": "require-pi"}))?;
    let nqn = lab.host("strict")?;
    let mut host = Host::on(Session::open(lab.nvme(), &nqn, &share.nqn, Options::default())?, large(1))?;
    let blocks = host.blocks(115, LBA, 1);
    let (bare, checked) = (host.at(LBA, 1).pract(), host.checked(LBA, 1));
    let data = host.data_of(&blocks);
    refused(&host.io().write(1, &bare, &data)?, code::INVALID_PROTECTION_INFORMATION)?;
    refused(&host.io().read(1, &bare, 4096)?, code::INVALID_PROTECTION_INFORMATION)?;
    done(&host.io().write(1, &checked, &blocks)?)?;
    let len = host.len(1);
    done(&host.io().read(1, &checked, len)?)
}
