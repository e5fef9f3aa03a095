//! Log pages. NVM Express Base 2.1 §5.1.12 "Get Log Page command".

use anyhow::Result;
use holdfast_testkit::{LogPage, Session};

use crate::{Case, fields};

mod changed;
mod effects;
mod errors;
mod pages;
mod persistent;
mod smart;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[
    pages::CASES,
    pages::OTHERS,
    errors::CASES,
    smart::CASES,
    effects::CASES,
    changed::CASES,
    persistent::CASES,
];

/// Log Page Identifiers.
pub(crate) mod lid {
    pub(crate) const SUPPORTED: u8 = 0x00;
    pub(crate) const ERRORS: u8 = 0x01;
    pub(crate) const SMART: u8 = 0x02;
    pub(crate) const FIRMWARE: u8 = 0x03;
    pub(crate) const CHANGED_NAMESPACES: u8 = 0x04;
    pub(crate) const EFFECTS: u8 = 0x05;
    pub(crate) const PERSISTENT_EVENTS: u8 = 0x0d;
    pub(crate) const FEATURES: u8 = 0x12;
    pub(crate) const DISCOVERY: u8 = 0x70;
}

/// A log page, or a part of one, that the target has to give.
pub(crate) fn read(session: &mut Session, page: &LogPage) -> Result<Vec<u8>> {
    let completion = session.admin().log_page(page)?;
    fields::done(&completion)?;
    Ok(completion.data)
}

/// SMART / Health Information.
pub(crate) fn smart(session: &mut Session) -> Result<Vec<u8>> {
    read(session, &LogPage::new(lid::SMART, 512).nsid(u32::MAX))
}

/// The changed namespaces; reading clears the list unless `retain`.
pub(crate) fn changed_namespaces(session: &mut Session, retain: bool) -> Result<Vec<u32>> {
    let page = LogPage::new(lid::CHANGED_NAMESPACES, 4096);
    let data = read(session, &if retain { page.retain() } else { page })?;
    let entries = (0..1024).map(|index| fields::le32(&data, index * 4)).collect::<Result<Vec<_>>>()?;
    let used = entries.iter().position(|nsid| *nsid == 0).unwrap_or(entries.len());
    fields::zero("behind the changed namespaces", &data, used * 4, data.len() - used * 4)?;
    Ok(entries.into_iter().take(used).collect())
}
