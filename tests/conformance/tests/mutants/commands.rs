//! Mistakes in Admin and I/O commands, and in what they check.

use crate::Mutant;

pub(crate) const MUTANTS: &[Mutant] = &[
    Mutant { name: "identify-descriptors", caught_by: &["admin.identifiers.descriptors"] },
    Mutant { name: "identify-nsid", caught_by: &["admin.namespace.beyond"] },
    Mutant { name: "identify-list", caught_by: &["admin.lists.active-after"] },
    Mutant { name: "identify-dps", caught_by: &["admin.formats.pi.t2-512", "admin.formats.pi.t3-crc64-s24"] },
    Mutant { name: "abort-answer", caught_by: &["admin.abort.waiting-write", "admin.abort.event-request"] },
    Mutant { name: "event-limit", caught_by: &["events.requests.limit"] },
    Mutant { name: "event-mask", caught_by: &["events.namespaces.masked"] },
    Mutant { name: "event-enable", caught_by: &["events.namespaces.disabled", "events.namespaces.default"] },
    Mutant { name: "feature-save", caught_by: &["features.arbitration.save"] },
    Mutant { name: "feature-scope", caught_by: &["features.volatile-write-cache.scope"] },
    Mutant { name: "feature-queues", caught_by: &["features.number-of-queues.late"] },
    Mutant {
        name: "log-offset",
        caught_by: &["logs.pages.parts.smart", "logs.pages.beyond.supported-log-pages"],
    },
    Mutant { name: "log-retain", caught_by: &["logs.changed.retained", "events.namespaces.retained"] },
    Mutant { name: "log-changed", caught_by: &["logs.changed.once"] },
    Mutant { name: "smart-units", caught_by: &["logs.smart.read-units", "logs.smart.written-units"] },
    Mutant { name: "error-log-lba", caught_by: &["logs.errors.guard-write", "logs.errors.first-lba"] },
    Mutant { name: "io-mdts", caught_by: &["admin.controller.mdts.read", "admin.controller.mdts.write"] },
    Mutant { name: "io-range", caught_by: &["nvm.ranges.edges", "nvm.ranges.whole-end"] },
    Mutant { name: "io-lbafee", caught_by: &["features.host-behavior.lbafee-off"] },
    Mutant { name: "deallocate-first", caught_by: &["nvm.deallocate.many"] },
    Mutant { name: "compare-first", caught_by: &["nvm.compare.every-block"] },
    Mutant { name: "uncorrectable", caught_by: &["nvm.uncorrectable.read", "nvm.uncorrectable.other-view"] },
    Mutant { name: "copy-ranges", caught_by: &["nvm.copy.too-many-ranges"] },
    Mutant { name: "copy-overlap", caught_by: &["nvm.copy.overlap"] },
    Mutant { name: "fused-apart", caught_by: &["nvm.fused.differs", "protection.fused.data.t1-4096"] },
    Mutant { name: "fused-missing", caught_by: &["nvm.fused.lone-first"] },
    Mutant { name: "fused-range", caught_by: &["nvm.fused.range"] },
    Mutant {
        name: "pi-guard",
        caught_by: &["protection.write.guard.t1-512", "protection.read.guard.t2-crc64-s20"],
    },
    Mutant { name: "pi-app-mask", caught_by: &["protection.mask.app.t1-4096"] },
    Mutant {
        name: "pi-ref-stays",
        caught_by: &["protection.write.good.t1-4096", "protection.mask.ref-wraps.t2-512"],
    },
    Mutant {
        name: "pi-storage",
        caught_by: &["protection.write.storage.t1-crc32c-s16", "protection.copy.storage.t2-crc64-s20"],
    },
    Mutant { name: "pi-escape", caught_by: &["protection.escape.almost.t3-512"] },
    Mutant { name: "pi-insert-app", caught_by: &["protection.insert.tuples.t1-512"] },
    Mutant {
        name: "pi-fault-stored",
        caught_by: &["protection.write.guard.t3-4096", "protection.long.write.t1-512"],
    },
    Mutant { name: "pi-reference-rule", caught_by: &["protection.rules.reference.t1-4096"] },
    Mutant { name: "pi-plain-unchecked", caught_by: &["protection.views.bad-guard.t1-4096"] },
    Mutant {
        name: "pi-retry",
        caught_by: &["protection.write.guard.t1-4096", "protection.write.app.t2-512"],
    },
];
