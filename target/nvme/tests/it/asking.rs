//! Admin commands in short, and fields of what comes back.

use crate::host::{Host, code, put, sgl, sqe};
use crate::world::World;

pub(crate) fn identify(
    admin: &mut Host,
    world: &mut World,
    cns: u32,
    nsid: u32,
) -> Result<Vec<u8>, (u8, u8)> {
    let mut sqe = sqe(0x06, nsid);
    put(&mut sqe, 10, cns);
    sgl(&mut sqe, 0x5a, 0, 4096);
    let (status, _, data) = admin.run(world, sqe, &[]);
    if status == 0 { Ok(data) } else { Err(code(status)) }
}

pub(crate) fn log(
    admin: &mut Host,
    world: &mut World,
    lid: u32,
    offset: u32,
    len: u32,
) -> Result<Vec<u8>, (u8, u8)> {
    let mut sqe = sqe(0x02, u32::MAX);
    put(&mut sqe, 10, lid | ((len / 4 - 1) << 16));
    put(&mut sqe, 12, offset);
    sgl(&mut sqe, 0x5a, 0, len);
    let (status, _, data) = admin.run(world, sqe, &[]);
    if status == 0 { Ok(data) } else { Err(code(status)) }
}

pub(crate) fn get_feature(admin: &mut Host, world: &mut World, id: u32) -> (u16, u64) {
    let mut sqe = sqe(0x0a, 0);
    put(&mut sqe, 10, id);
    let (status, result, _) = admin.run(world, sqe, &[]);
    (status, result)
}

pub(crate) fn set_feature(admin: &mut Host, world: &mut World, id: u32, value: u32) -> (u16, u64) {
    let mut sqe = sqe(0x09, 0);
    put(&mut sqe, 10, id);
    put(&mut sqe, 11, value);
    let (status, result, _) = admin.run(world, sqe, &[]);
    (status, result)
}

pub(crate) fn half(data: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(data[at..at + 2].try_into().unwrap())
}

pub(crate) fn word(data: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(data[at..at + 4].try_into().unwrap())
}

pub(crate) fn long(data: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(data[at..at + 8].try_into().unwrap())
}
