//! One volume at once from hosts of both transports and in both views: each finds what the others wrote, with right tuples.

use std::thread;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Share, View, protected};
use holdfast_testkit::iscsi::{Medium, Op, Scsi, inquiry, read_capacity16, vital_page};
use holdfast_testkit::pi::{PiFormat, Tags, Tuple};
use holdfast_testkit::{Io, Options, iscsi};

const BLOCKS: u32 = 16;
const TUPLE_BYTES: usize = 8;
/// Each party has blocks of its own, so far apart.
const APART: u64 = 64;
/// Rounds of all parties at the same time.
const ROUNDS: u8 = 40;

/// One way to the volume.
enum Way {
    Nvme(Box<holdfast_testkit::Session>),
    Iscsi(Box<iscsi::Session>),
}

struct Party {
    name: &'static str,
    view: View,
    way: Way,
    block: usize,
}

impl Party {
    fn open(
        appliance: &Appliance,
        share: &Share,
        name: &'static str,
        view: View,
        block: usize,
    ) -> Result<Party> {
        let word = if view == View::Pi { "pi" } else { "plain" };
        let way = if name.starts_with("nvme") {
            appliance.admit_scripted(name, share, word, "any")?;
            Way::Nvme(Box::new(appliance.session(name, share, Options::default())?))
        } else {
            appliance.admit_initiator(name, share, word, "any")?;
            Way::Iscsi(Box::new(appliance.log_in(name, share)?))
        };
        Ok(Party { name, view, way, block })
    }

    /// The application tag that this party's own tuples have; those that the target makes have 0.
    fn app_tag(&self) -> u16 {
        match (self.view, &self.way) {
            (View::Plain, _) => 0,
            (View::Pi, Way::Nvme(_)) => 0xbeef,
            (View::Pi, Way::Iscsi(_)) => 0xcafe,
        }
    }

    fn write(&mut self, lba: u64, data: &[u8]) -> Result<()> {
        let sent = match self.view {
            View::Plain => data.to_vec(),
            View::Pi => protected(data, self.block, Tags::counting(lba).app(self.app_tag())),
        };
        match &mut self.way {
            Way::Nvme(session) => {
                let io = Io::at(lba, BLOCKS);
                let io = if self.view == View::Pi {
                    io.check_guard().check_ref().ref_tag(u32::try_from(lba)?)
                } else {
                    io
                };
                session.io(1).write(1, &io, &sent)?.ok()?;
            }
            Way::Iscsi(session) => {
                let cdb = Medium::at(lba, BLOCKS).protect(u8::from(self.view == View::Pi)).cdb16(Op::Write);
                session.run(Scsi::write(0, cdb, sent))?.ok()?;
            }
        }
        Ok(())
    }

    /// Data and, in the PI view, tuples, with every check that the view has.
    fn read(&mut self, lba: u64) -> Result<(Vec<u8>, Vec<Tuple>)> {
        let tuple = if self.view == View::Pi { TUPLE_BYTES } else { 0 };
        let len = (self.block + tuple) * BLOCKS as usize;
        let bytes = match &mut self.way {
            Way::Nvme(session) => {
                let io = Io::at(lba, BLOCKS);
                let io = if self.view == View::Pi {
                    io.check_guard().check_ref().ref_tag(u32::try_from(lba)?)
                } else {
                    io
                };
                session.io(1).read(1, &io, len)?.ok()?.data
            }
            Way::Iscsi(session) => {
                let cdb = Medium::at(lba, BLOCKS).protect(u8::from(self.view == View::Pi)).cdb16(Op::Read);
                session.run(Scsi::read(0, cdb, len))?.ok()?.data
            }
        };
        ensure!(bytes.len() == len, "{} bytes instead of {len}", bytes.len());
        let (mut data, mut tuples) = (Vec::new(), Vec::new());
        for block in bytes.chunks(self.block + tuple) {
            let (content, tail) = block.split_at(self.block);
            data.extend_from_slice(content);
            tuples.extend(PiFormat::CRC16.parse(tail));
        }
        Ok((data, tuples))
    }
}

fn parties(appliance: &Appliance, block: usize) -> Result<Vec<Party>> {
    let share = appliance.share("common", 16, u64::try_from(block)?)?;
    let open = |name, view| {
        Party::open(appliance, &share, name, view, block).with_context(|| format!("{name} opens"))
    };
    [("nvme-pi", View::Pi), ("iscsi-pi", View::Pi), ("nvme-plain", View::Plain), ("iscsi-plain", View::Plain)]
        .into_iter()
        .map(|(name, view)| open(name, view))
        .collect()
}

fn content(seed: u8, block: usize) -> Vec<u8> {
    (0..block * BLOCKS as usize)
        .map(|at| seed.wrapping_mul(31).wrapping_add((at / 7).to_le_bytes()[0]))
        .collect()
}

#[test]
fn each_host_finds_what_all_others_wrote_with_right_tuples() -> Result<()> {
    for block in [512, 4096] {
        let appliance = Appliance::start(&format!("iscsi_together_{block}"))?;
        let mut parties = parties(&appliance, block)?;
        for writer in 0..parties.len() {
            let lba = u64::try_from(writer)? * APART;
            let data = content(u8::try_from(writer)? + 1, block);
            let app_tag = parties[writer].app_tag();
            parties[writer].write(lba, &data)?;
            let from = parties[writer].name;
            for reader in &mut parties {
                let what = format!("{} reads what {from} wrote", reader.name);
                let (found, tuples) = reader.read(lba).with_context(|| what.clone())?;
                ensure!(found == data, "{what}: other data");
                for (index, tuple) in tuples.iter().enumerate() {
                    let ref_tag = lba + u64::try_from(index)?;
                    ensure!((tuple.app_tag, tuple.ref_tag) == (app_tag, ref_tag), "{what}: {tuple:x?}");
                }
            }
        }
        ensure!(appliance.rest().items("/incidents")?.is_empty(), "nobody is to be accused");
        appliance.stop()?;
    }
    Ok(())
}

#[test]
fn all_hosts_at_the_same_time_find_whole_blocks() -> Result<()> {
    let appliance = Appliance::start_with("iscsi_together_at_once", &["--cores", "0,1"])?;
    let workers: Vec<_> = parties(&appliance, 4096)?
        .into_iter()
        .enumerate()
        .map(|(number, mut party)| {
            thread::spawn(move || -> Result<()> {
                for round in 0..ROUNDS {
                    // All on the same blocks: every block is some party's, as a whole, and its tuple is right.
                    party.write(APART, &content(round.wrapping_add(u8::try_from(number)?), 4096))?;
                    party.read(APART).with_context(|| format!("{} in round {round}", party.name))?;
                }
                Ok(())
            })
        })
        .collect();
    for worker in workers {
        worker.join().map_err(|_| anyhow::anyhow!("a host failed"))??;
    }
    ensure!(appliance.rest().items("/incidents")?.is_empty(), "nobody is to be accused");
    appliance.stop()
}

#[test]
fn both_views_carry_the_same_identifiers_over_iscsi() -> Result<()> {
    let appliance = Appliance::start("iscsi_identifiers")?;
    let share = appliance.share("common", 16, 4096)?;
    let mut seen = Vec::new();
    for (name, view) in [("pi", "pi"), ("plain", "plain")] {
        appliance.admit_initiator(name, &share, view, "any")?;
        let mut session = appliance.log_in(name, &share)?;
        let mut ask =
            |cdb: Vec<u8>, room| -> Result<Vec<u8>> { Ok(session.run(Scsi::read(0, cdb, room))?.ok()?.data) };
        let standard = ask(inquiry(255), 255)?;
        ensure!(
            standard.get(5).is_some_and(|flags| (flags & 1 == 1) == (view == "pi")),
            "PROTECT in the {view} view"
        );
        let capacity = ask(read_capacity16(32), 32)?;
        ensure!(
            capacity.get(12).is_some_and(|flags| (flags & 1 == 1) == (view == "pi")),
            "PROT_EN in the {view} view"
        );
        seen.push((
            ask(vital_page(0x83, 1024), 1024)?,
            ask(vital_page(0x80, 255), 255)?,
            capacity.get(..12).map(<[u8]>::to_vec),
        ));
    }
    ensure!(seen.first() == seen.last(), "{seen:02x?}");
    appliance.stop()
}
