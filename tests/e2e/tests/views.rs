//! Two views of one volume: with and without tuples, by two hosts at once, with both block sizes and all guards, and every
//! size of transfer with every combination of digests. NVM Command Set 1.1 §5.3 "End-to-end Data Protection".

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Plane, Share, eventually};
use holdfast_testkit::pi::{GuardKind, PiFormat, Tags, Tuple};
use holdfast_testkit::wire::{Sqe, Status, code, opcode};
use holdfast_testkit::{Command, DeallocateRange, Io, NamespaceFormat, Options, Placement, Session};
use serde_json::{Value, json};
use std::time::Duration;

const SEEN_LIMIT: Duration = Duration::from_secs(20);
const TUPLE: usize = 8;

/// Hosts `plain` and `pi` on one volume of type 1 with 16-bit guards.
struct Both {
    appliance: Appliance,
    share: Share,
    plain: Session,
    pi: Session,
    block: usize,
}

fn both(name: &str, block: u64) -> Result<Both> {
    let appliance = Appliance::start(name)?;
    let share = appliance.share("disk", 16, block)?;
    appliance.admit_scripted("plain", &share, "plain", "any")?;
    appliance.admit_scripted("pi", &share, "pi", "any")?;
    let plain = appliance.session("plain", &share, Options::default())?;
    let pi = appliance.session("pi", &share, Options::default())?;
    Ok(Both { appliance, share, plain, pi, block: usize::try_from(block)? })
}

fn expect(what: &str, status: Status, pair: (u8, u8)) -> Result<()> {
    ensure!(status.pair() == pair, "{what}: {status}, not {:x}h/{:02x}h", pair.0, pair.1);
    Ok(())
}

fn data(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| seed.wrapping_add(at.to_le_bytes()[0]).wrapping_mul(at.to_le_bytes()[1] | 1)).collect()
}

impl Both {
    fn tuples(&self, interleaved: &[u8]) -> Result<Vec<Tuple>> {
        let count = interleaved.len() / (self.block + TUPLE);
        let tuple = |index| PiFormat::CRC16.tuple_at(interleaved, self.block, index).context("a tuple");
        (0..count).map(tuple).collect()
    }

    fn wire(&self, blocks: usize) -> usize {
        blocks * (self.block + TUPLE)
    }

    fn read_pi(&mut self, io: &Io, blocks: usize) -> Result<Vec<u8>> {
        let len = self.wire(blocks);
        Ok(self.pi.io(1).read(1, io, len)?.ok()?.data)
    }
}

#[test]
fn the_two_views_are_identified_as_formats_with_and_without_metadata() -> Result<()> {
    for block in [512, 4096] {
        let mut both = both(&format!("views_identify_{block}"), block)?;
        let plain = both.plain.namespace_format(1)?;
        ensure!((plain.metadata_size, plain.pi_type) == (0, 0), "{plain:?}");
        let pi = both.pi.namespace_format(1)?;
        let seen = (pi.metadata_size, pi.pi_type, pi.interleaved, pi.pi_first);
        ensure!(seen == (8, 1, true, false) && pi.guard == GuardKind::Crc16, "{pi:?}");
        let size = (plain.block_size, plain.blocks);
        ensure!(size == (pi.block_size, pi.blocks) && plain.block_size == both.block, "{plain:?} {pi:?}");
        let identifiers = |session: &mut Session| -> Result<Vec<u8>> {
            Ok(session.admin().identify(0x03, 1, 0)?.ok()?.data)
        };
        let descriptors = identifiers(&mut both.plain)?;
        ensure!(descriptors == identifiers(&mut both.pi)?, "both views carry the same identifiers");
        let uuid: String = both.share.uuid.chars().filter(|letter| *letter != '-').collect();
        let hex: String = descriptors.iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(hex.contains(&uuid), "no {uuid} in {hex}");
        both.appliance.stop()?;
    }
    Ok(())
}

#[test]
fn tuples_inserted_for_the_plain_host_are_right_for_the_pi_host_and_the_other_way_round() -> Result<()> {
    for block in [512, 4096] {
        let mut both = both(&format!("views_both_{block}"), block)?;
        let sent = data(3, 16 * both.block);
        both.plain.io(1).write(1, &Io::at(100, 16), &sent)?.ok()?;
        let back = both.read_pi(&Io::at(100, 16).check_all().ref_tag(100).app_tag(0), 16)?;
        ensure!(back == PiFormat::CRC16.protect(&sent, both.block, Tags::counting(100)), "inserted tuples");
        // The other way round, application tags are the PI host's own and nobody else looks at them.
        let sent = data(9, 16 * both.block);
        let blocks = PiFormat::CRC16.protect(&sent, both.block, Tags::counting(200).app(0xbeef));
        let io = Io::at(200, 16).check_all().ref_tag(200).app_tag(0xbeef);
        both.pi.io(1).write(1, &io, &blocks)?.ok()?;
        let back = both.plain.io(1).read(1, &Io::at(200, 16), sent.len())?.ok()?.data;
        ensure!(back == sent, "stripped blocks");
        // A part of it overwritten by the plain host gets tuples of its own; the rest keeps the PI host's.
        let part = data(1, 2 * both.block);
        both.plain.io(1).write(1, &Io::at(204, 2), &part)?.ok()?;
        let tags: Vec<u16> = {
            let back = both.read_pi(&Io::at(200, 16).check_guard().check_ref().ref_tag(200), 16)?;
            both.tuples(&back)?.iter().map(|tuple| tuple.app_tag).collect()
        };
        let mut expected = vec![0xbeef; 16];
        expected.splice(4..6, [0, 0]);
        ensure!(tags == expected, "{tags:04x?}");
        both.appliance.stop()?;
    }
    Ok(())
}

#[test]
fn a_bad_guard_stored_unchecked_fails_the_plain_hosts_read() -> Result<()> {
    let mut both = both("views_bad", 4096)?;
    let mut blocks = PiFormat::CRC16.protect(&data(1, 4 * 4096), 4096, Tags::counting(8));
    holdfast_testkit::pi::flip_data_bit(&mut blocks, 4096, TUPLE, 2, 7);
    both.pi.io(1).write(1, &Io::at(8, 4), &blocks)?.ok()?;
    expect("guard", both.plain.io(1).read(1, &Io::at(8, 4), 4 * 4096)?.status(), code::GUARD_CHECK)?;
    expect("its neighbours", both.plain.io(1).read(1, &Io::at(8, 2), 2 * 4096)?.status(), code::SUCCESS)?;
    expect("Verify", both.plain.io(1).verify(1, &Io::at(8, 4))?.status(), code::GUARD_CHECK)?;
    // With a wrong reference tag, then with one that escapes checking.
    for (app, pair) in [(0, code::REF_TAG_CHECK), (0xffff, code::SUCCESS)] {
        let blocks = PiFormat::CRC16.protect(&data(1, 4096), 4096, Tags::counting(99).app(app));
        both.pi.io(1).write(1, &Io::at(10, 1), &blocks)?.ok()?;
        expect("reference tag", both.plain.io(1).read(1, &Io::at(10, 1), 4096)?.status(), pair)?;
    }
    both.appliance.stop()
}

#[test]
fn pract_inserts_the_commands_tags_and_strips_what_was_stored() -> Result<()> {
    for block in [512, 4096] {
        let mut both = both(&format!("views_pract_{block}"), block)?;
        let sent = data(5, 8 * both.block);
        for placement in [Placement::InCapsule, Placement::Solicited] {
            let lba = if placement == Placement::InCapsule { 40 } else { 60 };
            let count = if placement == Placement::InCapsule { 1 } else { 8 };
            let first = u32::try_from(lba)?;
            let io = Io::at(lba, count).pract().app_tag(0x4321).ref_tag(first);
            let part = sent.get(..usize::try_from(count)? * both.block).context("blocks")?.to_vec();
            let command = Command::with_data(io.sqe(opcode::WRITE, 1), part.clone()).placed(placement);
            both.pi.io(1).run(command)?.ok()?;
            let check = Io::at(lba, count).check_all().app_tag(0x4321).ref_tag(first);
            let back = both.read_pi(&check, usize::try_from(count)?)?;
            let right = PiFormat::CRC16.protect(&part, both.block, Tags::counting(lba).app(0x4321));
            ensure!(back == right, "inserted tuples, {placement:?}");
            let stripped = both.pi.io(1).read(1, &check.pract(), part.len())?.ok()?.data;
            ensure!(stripped == part, "stripped, {placement:?}");
            let wrong = check.pract().app_tag(0x4322);
            expect(
                "strip with checks",
                both.pi.io(1).read(1, &wrong, part.len())?.status(),
                code::APP_TAG_CHECK,
            )?;
            let masked = check.pract().app_tag_masked(0x4322, 0xff00);
            both.pi.io(1).read(1, &masked, part.len())?.ok()?;
        }
        both.appliance.stop()?;
    }
    Ok(())
}

#[test]
fn deallocated_blocks_read_as_zeros_with_tuples_that_escape() -> Result<()> {
    for block in [512, 4096] {
        let mut both = both(&format!("views_deallocated_{block}"), block)?;
        let sent = data(5, 32 * both.block);
        let zeros = vec![0; both.block];
        both.plain.io(1).write(1, &Io::at(64, 32), &sent)?.ok()?;
        let ranges = [DeallocateRange { slba: 66, blocks: 3 }, DeallocateRange { slba: 90, blocks: 1 }];
        both.pi.io(1).deallocate(1, &ranges)?.ok()?;
        both.plain.io(1).write_zeroes(1, &Io::at(70, 2).deallocate())?.ok()?;
        both.plain.io(1).write_zeroes(1, &Io::at(74, 2))?.ok()?;
        let gone = [66, 67, 68, 70, 71, 74, 75, 90];
        let back = both.read_pi(&Io::at(64, 32).check_all().ref_tag(64).app_tag(0), 32)?;
        let plain = both.plain.io(1).read(1, &Io::at(64, 32), sent.len())?.ok()?.data;
        for (index, chunk) in back.chunks_exact(both.block + TUPLE).enumerate() {
            let lba = 64 + index;
            let (block, tuple) = chunk.split_at(both.block);
            let range = index * both.block..(index + 1) * both.block;
            let expected = if gone.contains(&lba) { Some(zeros.as_slice()) } else { sent.get(range.clone()) };
            ensure!(Some(block) == expected && plain.get(range) == expected, "block {lba}");
            let escapes = tuple == [0xff; TUPLE];
            // Zeroes that were written without PRACT have a tuple that nobody made: it must escape or be right.
            let made =
                [74, 75].contains(&lba) && PiFormat::CRC16.first_bad_guard(chunk, both.block).is_none();
            ensure!(escapes == gone.contains(&lba) || made, "block {lba}: {tuple:02x?}");
        }
        // Never written at all.
        let back = both.read_pi(&Io::at(1000, 1), 1)?;
        ensure!(back.iter().take(both.block).all(|byte| *byte == 0), "a new block is not zeros");
        ensure!(back.ends_with(&[0xff; TUPLE]), "a new block's tuple");
        // With PRACT=1, zeroes get the tags of the command.
        both.pi.io(1).write_zeroes(1, &Io::at(80, 2).pract().app_tag(0x11).ref_tag(80))?.ok()?;
        let back = both.read_pi(&Io::at(80, 2).check_all().app_tag(0x11).ref_tag(80), 2)?;
        let right = PiFormat::CRC16.protect(
            &[zeros.clone(), zeros].concat(),
            both.block,
            Tags::counting(80).app(0x11),
        );
        ensure!(back == right, "zeroes with tuples");
        both.appliance.stop()?;
    }
    Ok(())
}

#[test]
fn compare_and_verify_judge_what_is_stored() -> Result<()> {
    for block in [512, 4096] {
        let mut both = both(&format!("views_compare_{block}"), block)?;
        let sent = data(8, 40 * both.block);
        both.plain.io(1).write(1, &Io::at(5, 40), &sent)?.ok()?;
        both.plain.io(1).compare(1, &Io::at(5, 40), &sent)?.ok()?;
        both.plain.io(1).verify(1, &Io::at(5, 40))?.ok()?;
        let mut other = sent.clone();
        holdfast_testkit::pi::flip_bit(&mut other, 39 * both.block * 8 + 17);
        let differs = both.plain.io(1).compare(1, &Io::at(5, 40), &other)?.status();
        expect("one bit differs", differs, code::COMPARE_FAILURE)?;
        let tuples = PiFormat::CRC16.protect(&sent, both.block, Tags::counting(5));
        let io = Io::at(5, 40).check_all().ref_tag(5);
        both.pi.io(1).compare(1, &io, &tuples)?.ok()?;
        both.pi.io(1).verify(1, &io)?.ok()?;
        let refused = both.pi.io(1).verify(1, &io.app_tag(7))?.status();
        expect("Verify with another application tag", refused, code::APP_TAG_CHECK)?;
        let foreign = Io::at(5, 40).check_ref().ref_tag(6);
        for status in [
            both.pi.io(1).verify(1, &foreign)?.status(),
            both.pi.io(1).compare(1, &foreign, &tuples)?.status(),
            both.pi.io(1).write(1, &foreign, &tuples)?.status(),
        ] {
            // Type 1: ILBRT has to be the low bits of SLBA (§5.3.3).
            expect("a foreign ILBRT", status, code::INVALID_PROTECTION_INFORMATION)?;
        }
        both.appliance.stop()?;
    }
    Ok(())
}

#[test]
fn require_pi_refuses_what_comes_without_tuples() -> Result<()> {
    let appliance = Appliance::start("views_require")?;
    let share = appliance.share("disk", 16, 4096)?;
    appliance.admit_scripted("strict", &share, "auto", "require-pi")?;
    let mut session = appliance.session("strict", &share, Options::default())?;
    ensure!(session.namespace_format(1)?.pi_type == 1, "require-pi gives the PI view");
    let blocks = PiFormat::CRC16.protect(&data(1, 4096), 4096, Tags::counting(3));
    let io = Io::at(3, 1).check_all().ref_tag(3);
    let invalid = code::INVALID_PROTECTION_INFORMATION;
    let queue = session.io(1);
    queue.write(1, &io, &blocks)?.ok()?;
    expect("Write", queue.write(1, &io.pract(), &data(2, 4096))?.status(), invalid)?;
    expect("Read", queue.read(1, &io.pract(), 4096)?.status(), invalid)?;
    expect("Compare", queue.compare(1, &io.pract(), &data(1, 4096))?.status(), invalid)?;
    expect("Verify", queue.verify(1, &io.pract())?.status(), invalid)?;
    let back = queue.read(1, &io, blocks.len())?.ok()?.data;
    ensure!(back == blocks, "a refused write was stored");
    // `enforce` takes effect at once.
    let grant = "/subsystems/disk/hosts/strict";
    appliance.rest().put(grant, &json!({"view": "pi", "enforce": "any"}))?;
    eventually(SEEN_LIMIT, "the end of require-pi", || {
        Ok(queue.write(1, &io.pract(), &data(2, 4096))?.status().is_success().then_some(()))
    })?;
    appliance.rest().put(grant, &json!({"view": "pi", "enforce": "require-pi"}))?;
    eventually(SEEN_LIMIT, "require-pi", || {
        Ok((queue.read(1, &io.pract(), 4096)?.status().pair() == invalid).then_some(()))
    })?;
    let refused = appliance.rest().exchange(
        "PUT",
        &format!("/api/v1{grant}"),
        &json!({"view": "plain", "enforce": "require-pi"}).to_string(),
    )?;
    ensure!(refused.status == 422, "{refused:?}");
    appliance.stop()
}

#[test]
fn sixteen_byte_tuples_work_in_both_views() -> Result<()> {
    let appliance = Appliance::start("views_wide")?;
    let rest = appliance.rest();
    let formats = [
        ("crc32c", GuardKind::Crc32c, 16, 1),
        ("crc32c", GuardKind::Crc32c, 32, 3),
        ("crc64", GuardKind::Crc64, 0, 1),
        ("crc64", GuardKind::Crc64, 16, 2),
        ("crc64", GuardKind::Crc64, 48, 3),
    ];
    for (index, (word, guard, bits, pi_type)) in formats.into_iter().enumerate() {
        let name = format!("wide{index}");
        let pi = json!({"type": pi_type, "guard": word, "storage_tag_bits": bits});
        rest.post("/volumes", &json!({"name": name, "pool": "ram", "size_bytes": 8 << 20, "pi": pi}))?;
        let subsystem = rest.post("/subsystems", &json!({"name": name}))?;
        rest.post(&format!("/subsystems/{name}/namespaces"), &json!({"volume": name}))?;
        let nqn = subsystem.get("nqn").and_then(Value::as_str).context("nqn")?.to_owned();
        let share = Share { name: name.clone(), nqn, uuid: String::new() };
        let (host, other) = (format!("pi{index}"), format!("plain{index}"));
        appliance.admit_scripted(&host, &share, "pi", "any")?;
        appliance.admit_scripted(&other, &share, "plain", "any")?;
        let mut pi = appliance.session(&host, &share, Options::default())?;
        let mut plain = appliance.session(&other, &share, Options::default())?;
        enable_extended_formats(&mut pi)?;
        let seen: NamespaceFormat = pi.namespace_format(1)?;
        let expected = (16, guard, bits, u8::try_from(pi_type)?);
        ensure!(
            (seen.metadata_size, seen.guard, seen.storage_tag_bits, seen.pi_type) == expected,
            "{seen:?}"
        );
        let what = format!("{word} with {bits} storage tag bits, type {pi_type}");
        wide_round_trip(&mut pi, &mut plain, seen, pi_type).context(what)?;
    }
    appliance.stop()
}

/// LBAFEE of Host Behavior Support: without it commands on such namespaces are refused.
fn enable_extended_formats(session: &mut Session) -> Result<()> {
    let mut behavior = vec![0; 512];
    if let Some(lbafee) = behavior.get_mut(2) {
        *lbafee = 1;
    }
    let set = Sqe::new(opcode::SET_FEATURES).cdw(10, 0x16);
    session.admin().run(Command::with_data(set, behavior))?.ok()?;
    Ok(())
}

fn wide_round_trip(pi: &mut Session, plain: &mut Session, seen: NamespaceFormat, pi_type: i32) -> Result<()> {
    let format = seen.pi();
    let sent = data(7, 4 * 4096);
    let tags = if pi_type == 3 { Tags::constant(0) } else { Tags::counting(12) };
    let blocks = format.protect(&sent, 4096, tags.app(0x77));
    let io = Io::at(12, 4).check_guard().check_app().app_tag(0x77);
    let io = if pi_type == 3 { io } else { io.check_ref().storage_and_ref(12) };
    pi.io(1).write(1, &io, &blocks)?.ok()?;
    ensure!(pi.io(1).read(1, &io, blocks.len())?.ok()?.data == blocks, "the tuples come back");
    ensure!(plain.io(1).read(1, &Io::at(12, 4), sent.len())?.ok()?.data == sent, "the plain view");
    let mut bad = blocks.clone();
    holdfast_testkit::pi::flip_tuple_bit(&mut bad, 4096, 16, 3, 1);
    expect("a bent guard", pi.io(1).write(1, &io, &bad)?.status(), code::GUARD_CHECK)?;
    plain.io(1).write(1, &Io::at(12, 4), &sent)?.ok()?;
    let back = pi.io(1).read(1, &io.app_tag(0), blocks.len())?.ok()?.data;
    let tuple = format.tuple_at(&back, 4096, 1).context("a tuple")?;
    ensure!(tuple.app_tag == 0 && tuple.storage_tag == 0, "{tuple:?}");
    ensure!(pi_type == 3 || tuple.ref_tag == 13, "{tuple:?}");
    ensure!(format.first_bad_guard(&back, 4096).is_none(), "inserted guards");
    Ok(())
}

#[test]
fn every_size_travels_with_every_combination_of_digests() -> Result<()> {
    let Both { appliance, share, plain, pi, .. } = both("views_digests", 4096)?;
    drop((plain, pi));
    let before = appliance.process(Plane::Data)?;
    for (header, digest) in [(false, false), (true, false), (false, true), (true, true)] {
        let options = Options::default().digests(header, digest);
        let mut plain = appliance.session("plain", &share, options.clone())?;
        let mut pi = appliance.session("pi", &share, options)?;
        for count in [1_u32, 32, 256] {
            let what = format!("{count} blocks, header digest {header}, data digest {digest}");
            let len = usize::try_from(count)? * 4096;
            let lba = u64::from(count) * 3;
            let sent = data(count.to_le_bytes()[0] ^ u8::from(header) ^ 1, len);
            let blocks = PiFormat::CRC16.protect(&sent, 4096, Tags::counting(lba).app(2));
            let io = Io::at(lba, count).check_all().app_tag(2).ref_tag(u32::try_from(lba)?);
            plain.io(1).write(1, &Io::at(lba, count), &sent)?.ok().with_context(|| what.clone())?;
            let back = plain.io(1).read(1, &Io::at(lba, count), len)?.ok()?.data;
            ensure!(back == sent, "{what}: plain");
            pi.io(1).write(1, &io, &blocks)?.ok().with_context(|| what.clone())?;
            let back = pi.io(1).read(1, &io, blocks.len())?.ok()?.data;
            ensure!(back == blocks, "{what}: with tuples");
        }
        plain.close()?;
        pi.close()?;
    }
    appliance.same_target(before)?;
    appliance.stop()
}

#[test]
fn escapes_pass_every_check_and_are_counted_as_such() -> Result<()> {
    let mut both = both("views_escapes", 4096)?;
    let sent = data(4, 4 * 4096);
    let mut blocks = PiFormat::CRC16.protect(&sent, 4096, Tags::counting(777).app(0xffff));
    holdfast_testkit::pi::flip_tuple_bit(&mut blocks, 4096, TUPLE, 1, 3);
    let io = Io::at(30, 4).check_all().ref_tag(30).app_tag(0x1111);
    both.pi.io(1).write(1, &io, &blocks)?.ok()?;
    let len = blocks.len();
    ensure!(both.pi.io(1).read(1, &io, len)?.ok()?.data == blocks, "escaping tuples are stored as they came");
    ensure!(both.plain.io(1).read(1, &Io::at(30, 4), sent.len())?.ok()?.data == sent, "the plain view");
    both.pi.io(1).read(1, &Io::at(30, 4), len)?.ok()?;
    let right = PiFormat::CRC16.protect(&sent, 4096, Tags::counting(40));
    both.pi.io(1).write(1, &Io::at(40, 4).check_guard(), &right)?.ok()?;
    both.pi.io(1).write(1, &Io::at(44, 4).pract().ref_tag(44), &sent)?.ok()?;
    both.pi.io(1).write_zeroes(1, &Io::at(50, 4))?.ok()?;
    eventually(SEEN_LIMIT, "the counters", || {
        let pi = both.appliance.counters("pi", &both.share)?;
        let plain = both.appliance.counters("plain", &both.share)?;
        let expected = [
            (&pi, "/write/blocks_escaped", 4),
            (&pi, "/write/blocks_checked", 4),
            (&pi, "/write/blocks_inserted", 4),
            (&pi, "/write/blocks_unchecked", 0),
            (&pi, "/read/blocks_escaped", 4),
            (&pi, "/read/blocks_unchecked", 4),
            (&pi, "/io/write_ops", 3),
            (&pi, "/io/read_ops", 2),
            (&pi, "/io/read_bytes", 2 * 4 * 4096),
            (&plain, "/read/blocks_stripped", 4),
            (&plain, "/io/read_ops", 1),
        ];
        for (counters, pointer, value) in expected {
            ensure!(counters.pointer(pointer) == Some(&json!(value)), "{pointer} is not {value}: {counters}");
        }
        Ok(Some(()))
    })?;
    both.appliance.stop()
}
