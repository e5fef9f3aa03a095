//! Every case on a real appliance, one test per chapter; a failing test names all its failing cases.

use anyhow::{Context as _, Result};
use holdfast_conformance::{CHAPTERS, Lab, run};

fn chapter(name: &str) -> Result<()> {
    let chapter = CHAPTERS.iter().find(|chapter| chapter.name == name).context("no such chapter")?;
    let mut lab = Lab::start(&format!("conformance_{name}"))?;
    run(&mut lab, chapter.cases(), |outcome| println!("{outcome}")).verdict()
}

macro_rules! chapters {
    ($($test:ident: $name:literal;)*) => {
        $(#[test]
        fn $test() -> Result<()> {
            chapter($name)
        })*

        #[test]
        fn every_chapter_has_a_test() {
            let tested = [$($name),*];
            assert_eq!(tested.to_vec(), CHAPTERS.iter().map(|chapter| chapter.name).collect::<Vec<_>>());
        }
    };
}

chapters! {
    transport_is_as_specified: "transport";
    fabrics_is_as_specified: "fabrics";
    admin_is_as_specified: "admin";
    features_are_as_specified: "features";
    logs_are_as_specified: "logs";
    events_are_as_specified: "events";
    nvm_is_as_specified: "nvm";
    protection_is_as_specified: "protection";
    nobody_else_notices_a_bad_host: "robustness";
}
