//! libiscsi's suite at a target that is known to fail parts of it: what runs it must see that. Needs root and Debian's `tgt` and
//! `libiscsi-bin`.

use std::collections::BTreeMap;

use anyhow::Result;
use holdfast_e2e::{Findings, Tgt, Verdict};

#[test]
fn the_suite_finds_fault_with_a_target_that_has_faults() -> Result<()> {
    let tgt = Tgt::start("the_suite_finds_fault", 256, &[512])?;
    let url = format!("iscsi://{}/{}/1", tgt.portal, tgt.iqn);
    let found = Findings::of("the_suite_finds_fault", &[&url])?;
    // libiscsi 1.19 has 230 tests; tgt implements neither COMPARE AND WRITE nor EXTENDED COPY.
    assert!(found.0.len() >= 230, "{} tests", found.0.len());
    assert!(found.count(Verdict::Failed) > 0 && found.count(Verdict::Passed) > 100);
    assert_eq!(found.0.get("CompareAndWrite.Simple"), Some(&Verdict::Skipped));
    assert_eq!(found.0.get("GetLBAStatus.BeyondEol"), Some(&Verdict::Failed));
    assert_eq!(found.0.get("Inquiry.Standard"), Some(&Verdict::Passed));
    let complaints = found.complaints(&BTreeMap::new());
    assert_eq!(complaints.len(), found.count(Verdict::Failed) + found.count(Verdict::Skipped));
    Ok(())
}
