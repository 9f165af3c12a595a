use super::*;

#[test]
fn strangers_who_say_nothing_take_up_only_so_many_threads() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let inbox = Inbox::open(0, listener, [1; 32]).unwrap();
    let visit = || TcpStream::connect(address).unwrap();
    let challenged = |mut stream: &TcpStream, limit| {
        stream.set_read_timeout(Some(limit)).unwrap();
        stream.read_exact(&mut [0; NONCE]).is_ok()
    };
    let mute: Vec<_> = (0..GREETED).map(|_| visit()).collect();
    assert!(mute.iter().all(|stream| challenged(stream, HELLO_TIMEOUT)));
    let one_more = visit();
    assert!(!challenged(&one_more, 4 * LOOK_UP), "a thread for each stranger");
    drop(mute);
    assert!(challenged(&one_more, HELLO_TIMEOUT), "it waits in the queue");
    inbox.closed.store(true, Relaxed);
}

#[test]
fn who_speaks_a_byte_at_a_time_has_no_more_time_than_others() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut slow = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let speaker = thread::spawn(move || {
        while slow.write_all(&[0]).is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let limit = Duration::from_millis(100);
    let read = read_within(&mut stream, &mut [0; 1000], limit).unwrap_err();
    assert!([ErrorKind::TimedOut, ErrorKind::WouldBlock].contains(&read.kind()), "{read}");
    drop(stream);
    speaker.join().unwrap();
}
