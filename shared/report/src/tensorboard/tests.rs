use super::*;

/// The messages of a file, whose framing is checked as a reader does.
fn events(path: &Path) -> Vec<Event> {
    let bytes = fs::read(path).unwrap();
    let (mut rest, mut all) = (&bytes[..], vec![]);
    while !rest.is_empty() {
        let length = u64::from_le_bytes(*rest.first_chunk().unwrap()) as usize;
        let message = &rest[12..12 + length];
        let number = |at: usize| u32::from_le_bytes(*rest[at..].first_chunk().unwrap());
        assert_eq!(number(8), checksum(&rest[..8]));
        assert_eq!(number(12 + length), checksum(message));
        all.push(Event::decode(message).unwrap());
        rest = &rest[16 + length..];
    }
    all
}

fn line(step: usize, val_loss: Option<f64>) -> Line {
    Line {
        step,
        loss: 2.5,
        grad_norm: 1.5,
        lr: 1e-3,
        tokens: 1024 * step as u64,
        tokens_per_second: 4000.0,
        mfu: None,
        comm_bytes: Default::default(),
        peak_memory_bytes: Some(1 << 30),
        mfu_strict: None,
        val_loss,
        val_samples: None,
    }
}

#[test]
fn the_checksum_is_tensorflows() {
    // That of CRC-32C of the digits is 0xe3069283, in every list of such sums.
    let masked = 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8);
    assert_eq!(checksum(b"123456789"), masked);
}

#[test]
fn a_file_has_a_version_a_start_and_the_numbers_of_each_step() {
    let dir = tempfile::tempdir().unwrap();
    let mut written = Events::create(&dir.path().join("new/run"), 7).unwrap();
    written.write(&line(8, None)).unwrap();
    written.write(&line(9, Some(2.25))).unwrap();
    let events = events(&written.path);
    assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".into())));
    let start = Some(What::SessionLog(SessionLog { status: 1 }));
    assert_eq!((events[1].step, &events[1].what), (8, &start));
    let Some(What::Summary(summary)) = &events[3].what else { panic!("{:?}", events[3]) };
    let value = |tag: &str| {
        summary.value.iter().find(|value| value.tag == tag).map(|value| value.simple_value)
    };
    assert_eq!((events[3].step, value("loss/training")), (9, Some(2.5)));
    assert_eq!(value("loss/validation"), Some(2.25));
    assert_eq!(value("speed/tokens"), Some(9216.0));
    assert_eq!(value("speed/mfu"), None, "where no peak is known");
    assert!(events.iter().all(|event| event.wall_time > 1.7e9));
    let Some(What::Summary(summary)) = &events[2].what else { panic!("{:?}", events[2]) };
    assert!(summary.value.iter().all(|value| value.tag != "loss/validation"));
}

#[test]
fn two_runs_into_one_directory_have_their_own_files() {
    let dir = tempfile::tempdir().unwrap();
    let first = Events::create(dir.path(), 0).unwrap();
    let second = Events::create(dir.path(), 0).unwrap();
    assert!(first.path < second.path, "read in this order");
    let refused = Events::create(&first.path, 0).err().unwrap();
    let about = "cannot write TensorBoard's events to ";
    assert!(format!("{refused:#}").starts_with(about), "{refused:#}");
}
