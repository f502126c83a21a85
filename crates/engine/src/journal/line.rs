//! A record as the bytes of one line: JSON with a checksum at its end.
//!
//! Format 2 ends with `,"crc32":"` and eight hexadecimal digits: the CRC-32 (IEEE 802.3, as of gzip) of the line up to that
//! comma. It finds every single flipped bit, so a damaged record is never read as another one. Format 1 had no checksum.

use super::{FORMAT, Record};

/// Before the digits of the checksum.
const MARK: &[u8] = b",\"crc32\":\"";
/// After them.
const END: &[u8] = b"\"}";
const DIGITS: usize = 8;

/// Why a line is not a record.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("it is not a record")]
    Invalid(#[from] serde_json::Error),
    #[error("it has no version")]
    Unversioned,
    #[error("it has no checksum")]
    NoChecksum,
    #[error("its checksum is {computed:08x}, and it was written with {recorded}")]
    WrongChecksum { recorded: String, computed: u32 },
    #[error("it is in format {format}, of version {tool}")]
    Newer { tool: String, format: u64 },
}

/// The line of a record, without a line break.
pub(super) fn encode(record: &Record) -> serde_json::Result<String> {
    let mut line = serde_json::to_string(record)?;
    // The closing brace goes behind the checksum.
    line.pop();
    let checksum = crc32fast::hash(line.as_bytes());
    Ok(format!("{line},\"crc32\":\"{checksum:08x}\"}}"))
}

/// Reads a line of any format up to [`FORMAT`].
pub(super) fn decode(line: &[u8]) -> Result<Record, LineError> {
    let checksum = split_checksum(line);
    if let Some((covered, recorded)) = checksum {
        let computed = crc32fast::hash(covered);
        if format!("{computed:08x}").as_bytes() != recorded {
            return Err(LineError::WrongChecksum {
                recorded: String::from_utf8_lossy(recorded).into_owned(),
                computed,
            });
        }
    }
    let value: serde_json::Value = serde_json::from_slice(line)?;
    let format = value.get("v").and_then(serde_json::Value::as_u64).ok_or(LineError::Unversioned)?;
    if format > u64::from(FORMAT) {
        let tool = value.get("tool").and_then(serde_json::Value::as_str).unwrap_or("unknown").to_owned();
        return Err(LineError::Newer { tool, format });
    }
    if format != 1 && checksum.is_none() {
        return Err(LineError::NoChecksum);
    }
    Ok(serde_json::from_value(value)?)
}

/// What a checksum covers, and its digits.
fn split_checksum(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (covered, digits) = line.strip_suffix(END)?.split_last_chunk::<DIGITS>()?;
    Some((covered.strip_suffix(MARK)?, digits))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::{ClusterFact, Entry, Epoch, Identity, RunEnd, RunId};
    use super::*;
    use crate::plan::{Fingerprint, StepId};

    fn entries() -> impl Strategy<Value = Entry> {
        let fingerprint = |text: &str| Fingerprint::builder().part(text).finish();
        prop_oneof![
            (".{0,12}", any::<Option<u32>>()).prop_map(move |(name, cluster_id)| Entry::RunStarted {
                tool: "0.1.0".into(),
                identity: Identity { name, cluster_id, talos_ca: Some("ab12".into()) },
                resumed: false,
                plan: BTreeMap::from([(StepId::new("etcd/bootstrap"), fingerprint("x"))]),
            }),
            "[a-z/]{1,12}".prop_map(move |step| Entry::StepDone {
                step: StepId::new(step),
                fingerprint: fingerprint("y"),
                quiet_seconds: Some(90),
            }),
            ".{0,40}".prop_map(|error| Entry::StepFailed { step: StepId::new("release/x"), error }),
            any::<u64>().prop_map(|number| Entry::Intent { step: StepId::new("x"), intent: json!({"number": number}) }),
            ".{0,12}".prop_map(|text| Entry::Concluded { step: StepId::new("x"), outcome: json!(text) }),
            "[0-9a-f]{8}".prop_map(|uid| Entry::Learned { fact: ClusterFact::KubeSystem(uid) }),
            Just(Entry::RunEnded { end: RunEnd::Complete }),
        ]
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written_and_no_flipped_bit_makes_it_another(entry in entries(), second in 0..4_000_000_000_i64) {
            let at = Timestamp::from_second(second).unwrap();
            let record = Record { v: FORMAT, at, run: RunId::new(at), epoch: Some(Epoch::new(7)), entry };
            let line = encode(&record).unwrap().into_bytes();
            prop_assert_eq!(&decode(&line).unwrap(), &record);
            for bit in 0..line.len() * 8 {
                let mut flipped = line.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(decode(&flipped).is_err(), "bit {bit}: {}", String::from_utf8_lossy(&flipped));
            }
        }
    }

    /// Earlier versions wrote it into the first record of a run only.
    #[test]
    fn the_epoch_of_an_older_journal_is_read_from_the_first_record_of_a_run() {
        let line = br#"{"v":1,"at":"2026-01-02T03:04:05Z","run":"20260102T030405Z-0001","entry":"run-started","tool":"0.1.0","epoch":4,"identity":{"name":"blue"},"resumed":false,"plan":{}}"#;
        assert_eq!(super::super::replay(&[decode(line).unwrap()]).epoch, Epoch::new(4));
    }

    #[test]
    fn a_record_of_the_first_format_is_read_without_a_checksum() {
        let line = br#"{"v":1,"at":"2026-01-02T03:04:05Z","run":"20260102T030405Z-0001","entry":"run-ended","end":"complete"}"#;
        assert_eq!(decode(line).unwrap().entry, Entry::RunEnded { end: RunEnd::Complete });
        assert_eq!(decode(line).unwrap().epoch, None);
        let newer = String::from_utf8_lossy(line).replace("\"v\":1", "\"v\":2");
        assert!(matches!(decode(newer.as_bytes()), Err(LineError::NoChecksum)));
    }
}
