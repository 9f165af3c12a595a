use super::*;
use comm::transport::OpCode;
use comm::{Layout, ReduceOp, reduce};
use std::net::TcpListener;
use std::time::{Duration, Instant};
use tch::Kind;

/// Receives what is written in parts that end at `splits`, and combines it with `into`.
fn receive(header: Header, message: &[u8], splits: &[usize], kind: Kind, into: &mut [u8]) {
    thread_local! {
        static PAIR: (TcpStream, TcpStream) = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let out = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            out.set_nodelay(true).unwrap();
            let (inlet, _) = listener.accept().unwrap();
            inlet.set_nonblocking(true).unwrap();
            (out, inlet)
        };
    }
    let spec = Layout { dp: 2, ..Layout::default() }.group("dp", 1);
    let timeout = Duration::from_secs(60);
    let call = Call { header, group: &spec, rank: 1, timeout };
    PAIR.with(|(out, inlet)| {
        let mut inlet = Inlet { socket: inlet.try_clone().unwrap(), workspace: Vec::new() };
        let combine = reduce::combine(kind, ReduceOp::Sum);
        let mut receiving = Receiving::new(&mut inlet, Incoming { from: 0, into, combine });
        let (mut start, end) = (0, Instant::now() + timeout);
        for &split in splits.iter().chain([&message.len()]) {
            (&*out).write_all(&message[start..split]).unwrap();
            start = split;
            // All of this part, and nothing of the next.
            while seen(&receiving) < split {
                receiving.advance(&call, &Abort::new()).unwrap();
                assert!(Instant::now() < end, "{} of {split} bytes", seen(&receiving));
            }
        }
        assert!(receiving.done());
    });
}

fn seen(receiving: &Receiving) -> usize {
    receiving.header_read + receiving.read + receiving.waiting
}

/// A message in two parts, and in three: every place where the network may cut it.
#[test]
fn a_message_may_come_in_parts_that_end_anywhere() {
    let (f64s, i64s) = ([1.5f64, -2.25, 1e300, 3.0, 0.1], [1i64, -2, 1 << 60, 3, 4]);
    let f32s = [1.5f32, -2.25, 1e30, 3.0, 0.1, 7.0, 8.0];
    let bytes: [(Kind, Vec<u8>, Vec<u8>); 4] = [
        (
            Kind::Double,
            f64s.iter().flat_map(|x| x.to_ne_bytes()).collect(),
            f64s.iter().flat_map(|x| (x + x).to_ne_bytes()).collect(),
        ),
        (
            Kind::Int64,
            i64s.iter().flat_map(|x| x.to_ne_bytes()).collect(),
            i64s.iter().flat_map(|x| (x + x).to_ne_bytes()).collect(),
        ),
        (
            Kind::Float,
            f32s.iter().flat_map(|x| x.to_ne_bytes()).collect(),
            f32s.iter().flat_map(|x| (x + x).to_ne_bytes()).collect(),
        ),
        (Kind::Uint8, (1..=21).collect(), (1..=21).map(|x| 2 * x).collect()),
    ];
    for (kind, tensor, doubled) in bytes {
        let numel = (tensor.len() / kind.elt_size_in_bytes()) as u64;
        let dtype = reduce::code(kind).unwrap();
        let header = Header { op: OpCode::AllReduceSum, dtype, root: 0, numel };
        let message = [&encode(&header)[..], &tensor].concat();
        let places: Vec<_> = (1..message.len()).collect();
        let once = places.iter().map(|&a| vec![a]);
        let later = places.iter().filter(|&&a| a >= Header::BYTES);
        let twice = later.flat_map(|&a| (a + 1..message.len()).map(move |b| vec![a, b]));
        for splits in once.chain(twice) {
            let mut into = tensor.clone();
            receive(header, &message, &splits, kind, &mut into);
            assert_eq!(into, doubled, "{kind:?} in parts that end at {splits:?}");
        }
    }
}
