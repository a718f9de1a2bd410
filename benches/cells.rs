//! Forward and backward of one recurrent layer over 20 steps, D = H, without an output layer, in rows (steps × lanes) per second.

use crate::cases::kinds;
use criterion::{Criterion, Throughput};
use std::hint::black_box;
use std::sync::Arc;
use wordmill::blas::Precision;
use wordmill::layers::cells::Cell;
use wordmill::layers::recurrence::{Masks, Memory, Net, Prepared, Shape, Steps};
use wordmill::layers::shards;
use wordmill::models::Init;
use wordmill::models::language_model::shard_lanes;
use wordmill::params::{Arena, Layout};
use wordmill::pool::pool;
use wordmill::sys::memory::Room;

const TAU: usize = 20;

struct Layer {
    net: Net,
    rows: usize,
    w: Arena<f32>,
    g: Arena<f32>,
    prepared: Prepared<f32>,
    shards: Vec<(Memory<f32>, Arena<f32>)>,
}

impl Layer {
    fn new(cell: Cell, units: usize, lanes: usize) -> Self {
        let mut layout = Layout::default();
        let net = Net::add(&mut layout, Shape { cell, inputs: units, units, layers: 1 });
        let layout = Arc::new(layout);
        let (mut w, g) = (Arena::<f32>::zeros(&layout), Arena::zeros(&layout));
        Init::Uniform.fill(&mut w, 1);
        let prepared = Room::make(|room| net.prepared(room, &layout, Precision::F32));
        let shard = shard_lanes(lanes);
        let rows = TAU * shard;
        let mut shards: Vec<_> = Room::make(|room| {
            room.many(lanes / shard, |room| (net.memory(room, TAU, shard), Arena::within(room, &layout)))
        });
        for (memory, _) in &mut shards {
            let x = memory.inputs(rows, units);
            x.iter_mut().enumerate().for_each(|(i, x)| *x = (i % 13) as f32 * 0.1 - 0.6);
        }
        Layer { net, rows, w, g, prepared, shards }
    }

    fn step(&mut self) {
        let Layer { net, rows, w, g, prepared, shards } = self;
        net.prepare(prepared, w, true);
        let masks = Masks { training: None, at_test: 1.0, variational: false, shard: 0 };
        let (rows, prepared) = (*rows, &*prepared);
        shards::each(
            shards,
            (),
            |_| 0,
            |_, (memory, g), ()| {
                let steps = Steps { rows, reset: &|_| false, masks, prepared };
                net.forward(memory, steps, w);
                memory.tape.dh.fill(1.0);
                black_box(net.backward(memory, steps, g, None));
            },
        );
        shards::sum(g.all_mut(), shards, |(_, of)| of.all());
    }
}

/// The group.
pub fn group(c: &mut Criterion) {
    let mut group = c.benchmark_group("cells");
    for (units, lanes) in [(128, 32), (128, 64), (256, 32), (256, 64), (512, 32), (512, 64)] {
        for (cell, threads) in kinds().into_iter().flat_map(|cell| [(cell, 1), (cell, 2)]) {
            let pool = pool(threads).expect("two threads can be had");
            let mut layer = None;
            group.throughput(Throughput::Elements((TAU * lanes) as u64));
            group.bench_function(format!("{:?} H {units}, {lanes} lanes, {threads} threads", cell.kind()), |b| {
                let layer = layer.get_or_insert_with(|| Layer::new(cell, units, lanes));
                b.iter(|| pool.install(|| layer.step()));
            });
        }
    }
}
