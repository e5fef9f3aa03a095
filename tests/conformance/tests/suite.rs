//! Every case on a real appliance, whose volumes lie in memory and then in a file; one test per chapter and kind of pool. A
//! failing test names all its failing cases.

use anyhow::{Context as _, Result};
use holdfast_conformance::{CHAPTERS, Lab, Start, run};
use holdfast_e2e::Backing;

fn chapter(name: &str, backing: Backing) -> Result<()> {
    let chapter = CHAPTERS.iter().find(|chapter| chapter.name == name).context("no such chapter")?;
    let log = format!("conformance_{name}_{backing:?}").to_lowercase();
    let mut lab = Lab::start(&log, Start { backing: Some(backing), ..Start::default() })?;
    run(&mut lab, chapter.cases(), |outcome| println!("{outcome}")).verdict()?;
    lab.end()
}

macro_rules! chapters {
    ($($test:ident: $name:literal;)*) => {
        mod in_memory {
            $(#[test]
            fn $test() -> super::Result<()> {
                super::chapter($name, super::Backing::Memory)
            })*
        }

        mod in_a_file {
            $(#[test]
            fn $test() -> super::Result<()> {
                super::chapter($name, super::Backing::File)
            })*
        }

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
