use smallvit_kernels::matrix::*;
fn time(name: &str, m: usize, k: usize, n: usize, f: impl Fn(&[f32], &[f32], &mut [f32])) {
    let a: Vec<f32> = (0..m.max(k) * 768 + 64)
        .map(|i| (i % 7) as f32 * 0.1)
        .collect();
    let b = a.clone();
    let big: Vec<f32> = (0..768 * 768).map(|i| (i % 5) as f32 * 0.1).collect();
    let _ = b;
    let mut c = vec![0.0f32; 768 * 768];
    for _ in 0..50 {
        f(&a, &big, &mut c);
    }
    let t = std::time::Instant::now();
    let r = 2000;
    for _ in 0..r {
        f(&a, &big, &mut c);
        std::hint::black_box(&c);
    }
    let s = t.elapsed().as_secs_f64() / r as f64;
    println!(
        "{name:28} {m}x{k}x{n}: {:.1} us, {:.1} GF",
        s * 1e6,
        2e-9 * (m * k * n) as f64 / s
    );
}
fn main() {
    println!("ceiling {:.1}", ceiling(0.5));
    time("qkv part", 144, 64, 256, |a, b, c| {
        MatrixMut::strided(c, 144, 256, 768).add(
            1.0,
            Matrix::new(a, 144, 64),
            Matrix::new(b, 64, 256),
        )
    });
    time("qkv all", 144, 64, 768, |a, b, c| {
        MatrixMut::new(c, 144, 768).add(1.0, Matrix::new(a, 144, 64), Matrix::new(b, 64, 768))
    });
    time("scores", 144, 64, 144, |a, b, c| {
        MatrixMut::new(c, 144, 144).set(
            1.0,
            Matrix::strided(a, 144, 64, 768),
            Matrix::strided(b, 144, 64, 768).t(),
        )
    });
    time("p*v", 144, 144, 64, |a, b, c| {
        MatrixMut::strided(c, 144, 64, 256).set(
            1.0,
            Matrix::new(a, 144, 144),
            Matrix::strided(b, 144, 64, 768),
        )
    });
    time("out", 144, 256, 64, |a, b, c| {
        MatrixMut::new(c, 144, 64).add(1.0, Matrix::new(a, 144, 256), Matrix::new(b, 256, 64))
    });
    time("mlp1", 144, 64, 128, |a, b, c| {
        MatrixMut::new(c, 144, 128).add(1.0, Matrix::new(a, 144, 64), Matrix::new(b, 64, 128))
    });
    time("mlp2", 144, 128, 64, |a, b, c| {
        MatrixMut::new(c, 144, 64).add(1.0, Matrix::new(a, 144, 128), Matrix::new(b, 128, 64))
    });
    time("dW qkv", 64, 144, 256, |a, b, c| {
        MatrixMut::new(c, 64, 256).add(
            1.0,
            Matrix::new(a, 144, 64).t(),
            Matrix::strided(b, 144, 256, 768),
        )
    });
    time("dX qkv", 144, 256, 64, |a, b, c| {
        MatrixMut::new(c, 144, 64).add(
            1.0,
            Matrix::strided(a, 144, 256, 768),
            Matrix::new(b, 64, 256).t(),
        )
    });
    time("dV", 144, 144, 64, |a, b, c| {
        MatrixMut::strided(c, 144, 64, 768).set(
            1.0,
            Matrix::new(a, 144, 144).t(),
            Matrix::strided(b, 144, 64, 256),
        )
    });
    time("dP", 144, 64, 144, |a, b, c| {
        MatrixMut::new(c, 144, 144).set(
            1.0,
            Matrix::strided(a, 144, 64, 256),
            Matrix::strided(b, 144, 64, 768).t(),
        )
    });
    time("dW out", 256, 144, 64, |a, b, c| {
        MatrixMut::new(c, 256, 64).add(1.0, Matrix::new(a, 144, 256).t(), Matrix::new(b, 144, 64))
    });
}
