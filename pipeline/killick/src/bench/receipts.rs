//! Receipts of a real run of the embedded line: how fast they are derived and verified, and what they weigh.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _};
use killick_proof::log::inclusion_path;
use killick_proof::receipt::{Anchor, Receipt};
use killick_proof::report::{Device, Level};
use killick_proof::trust::{DeviceKey, Trust};
use killick_proof::verify::Verifier;
use killick_proof::{Algorithm, Hash};
use killick_stages::derive::Deriver;
use killick_stages::ports::{Catalog, Place};
use sha2::{Digest as _, Sha256, Sha512_256};

use super::events::{Maker, TENANT};
use super::line::Line;
use super::meter::{a_second, median, timed};
use super::table::{Figures, Goal};

/// Unsigned events, whose receipts are derived and verified again and again.
const WARM: usize = 20_000;
/// Signed events, whose receipts are verified each for itself.
const COLD: usize = 1_000;
const ROUNDS: usize = 5;
/// Batches of a log for which the path part is told.
const BATCHES: u64 = 100_000;
/// Events of a batch that is as large as batches are by default.
const LEAVES: u64 = 1_024;
/// Bytes of a hash.
const HASH: usize = 32;

/// `receipts_built_per_core_s`, `verify_cold`, `verify_warm_per_core_s`, and bytes.
///
/// # Errors
/// A receipt cannot be derived, or is not good.
pub fn measure(maker: &Maker, folder: &Path, figures: &mut Figures) -> Result<()> {
    figures.says(&format!("receipts: {WARM} of unsigned events, {COLD} of signed ones"));
    let mut line = Line::open(&folder.join("warm"), maker)?;
    line.run(WARM, false, None)?;
    let (site, trust) = line.stop(&[])?;
    let trust = Trust::parse(&std::fs::read(&trust)?)?;
    let (mut rates, mut receipts) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut took = Duration::ZERO;
        receipts = timed(&mut took, || built(&site.catalog))?;
        ensure!(receipts.len() == WARM, "{} receipts of {WARM} events", receipts.len());
        rates.push(a_second(took, WARM));
    }
    figures.add("receipts_built_per_core_s", median(rates), "/s", None);
    figures.add("verify_warm_per_core_s", warm(trust, &receipts)?, "/s", Some(Goal::Least(200_000.0)));
    drop(site);

    let mut line = Line::open(&folder.join("cold"), maker)?;
    line.run(COLD, true, None)?;
    let devices: Vec<_> = (0..super::events::DEVICES).map(|number| device(maker, number)).collect();
    let (site, trust) = line.stop(&devices)?;
    let trust = Trust::parse(&std::fs::read(&trust)?)?;
    let receipts = built(&site.catalog)?;
    ensure!(receipts.len() == COLD, "{} receipts of {COLD} events", receipts.len());
    let (ratio, micros) = cold(&trust, &receipts)?;
    figures.add("verify_cold", ratio, "", Some(Goal::Least(0.85)));
    figures.add("verify.cold.cpu", micros, "µs/receipt", None);
    let last = receipts.last().context("there are receipts")?;
    weigh(&Receipt::parse(last).map_err(|fault| anyhow::anyhow!("{fault}"))?, figures)
}

fn device(maker: &Maker, number: usize) -> DeviceKey {
    let source = maker.event(number).source;
    DeviceKey { tenant: TENANT.into(), source, key: maker.key(number).public(), until: None }
}

/// The receipts of all that a catalog has, in CBOR.
fn built(catalog: &dyn Catalog) -> Result<Vec<Vec<u8>>> {
    let mut deriver = Deriver::new(catalog);
    let mut receipts = Vec::new();
    for origin in catalog.origins()? {
        for number in 0..catalog.log_size(&origin)? {
            for index in 0.. {
                let place = Place { origin: origin.clone(), number, index };
                let Some(receipt) = deriver.receipt_of(&place)? else { break };
                receipts.push(receipt.to_cbor());
            }
        }
    }
    Ok(receipts)
}

/// How many receipts are verified in a second by one that has seen their checkpoints and anchors.
fn warm(trust: Trust, receipts: &[Vec<u8>]) -> Result<f64> {
    let mut verifier = Verifier::new(trust);
    let mut rates = Vec::new();
    for round in 0..=ROUNDS {
        let mut took = Duration::ZERO;
        for receipt in receipts {
            let report = timed(&mut took, || verifier.verify(receipt, None));
            if report.level != Level::Trusted || report.wrong().is_some() {
                bail!("a receipt is not good: {report:?}");
            }
        }
        if round > 0 {
            rates.push(a_second(took, receipts.len()));
        }
    }
    Ok(median(rates))
}

/// The floor's share in what it takes to verify receipts each for itself, with every signature and anchor; and the microseconds of
/// each.
fn cold(trust: &Trust, receipts: &[Vec<u8>]) -> Result<(f64, f64)> {
    let key = SigningKey::from_bytes(&[3; 32]);
    let mut ratios = Vec::new();
    let mut micros = Vec::new();
    for _ in 0..ROUNDS {
        let (mut least, mut took) = (Duration::ZERO, Duration::ZERO);
        for bytes in receipts {
            let receipt = Receipt::parse(bytes).map_err(|fault| anyhow::anyhow!("{fault}"))?;
            let signature = key.sign(&receipt.statement);
            timed(&mut least, || floor(&receipt, &key, &signature));
            let mut verifier = Verifier::new(trust.clone());
            let report = timed(&mut took, || verifier.verify(bytes, None));
            let is_good = report.level == Level::Trusted && report.device == Some(Device::Valid);
            ensure!(is_good && report.wrong().is_none(), "a receipt is not good: {report:?}");
        }
        ratios.push(least.as_secs_f64() / took.as_secs_f64());
        micros.push(took.as_secs_f64() * 1e6 / receipts.len() as f64);
    }
    Ok((median(ratios), median(micros)))
}

/// The least that a receipt's check must do: the keys and signatures of its device and its log, its hashes, one by one.
fn floor(receipt: &Receipt, key: &SigningKey, signature: &Signature) {
    let public = key.verifying_key();
    for signed in [&receipt.statement[..], receipt.log.checkpoint.as_bytes()] {
        let key = ed25519_dalek::VerifyingKey::from_bytes(black_box(public.as_bytes()));
        black_box(key.map(|key| key.verify(signed, signature))).ok();
    }
    let leaves = [&receipt.statement[..], &receipt.batch.header, receipt.log.checkpoint.as_bytes()];
    for leaf in leaves {
        black_box(Sha256::digest(leaf));
    }
    let trees = receipt.anchors.iter().map(|anchor| anchor.tree.path.len()).sum::<usize>();
    for _ in 0..receipt.batch.path.len() + receipt.log.path.len() + trees {
        black_box(Sha256::digest(black_box([1; 65])));
    }
    for Anchor { spv, block, .. } in &receipt.anchors {
        black_box(Sha512_256::digest(&spv.input));
        black_box(Sha512_256::digest(&block.header));
        for _ in 0..spv.object.len() / (HASH + 1) {
            black_box(Sha512_256::digest(black_box([1; 65])));
        }
    }
}

/// What a receipt weighs, part by part.
fn weigh(receipt: &Receipt, figures: &mut Figures) -> Result<()> {
    let anchor = receipt.anchors.first().context("a receipt has an anchor")?;
    // Whatever the hashes are, the paths are as long.
    let len = |index, size| inclusion_path(Algorithm::Sha256, index, size, |_| Some(Hash::new([0; HASH])));
    let path = (len(0, BATCHES)?.len() + len(0, LEAVES)?.len()) * HASH;
    for (part, bytes) in [
        ("json", receipt.to_json().len()),
        ("cbor", receipt.to_cbor().len()),
        ("statement", receipt.statement.len()),
        ("batch_header", receipt.batch.header.len()),
        ("batch_path", receipt.batch.path.len() * HASH),
        ("checkpoint", receipt.log.checkpoint.len()),
        ("log_path", receipt.log.path.len() * HASH),
        ("anchor_tree", anchor.tree.path.len() * HASH),
        ("spv", anchor.spv.object.len() + anchor.spv.input.len()),
        ("block", anchor.block.header.len()),
    ] {
        figures.add(&format!("receipt.{part}"), bytes as f64, "bytes", None);
    }
    figures.add("receipt.path_at_100k_batches", path as f64, "bytes", Some(Goal::Most(1024.0)));
    Ok(())
}
