use burn::tensor::*; use smallvit::model::*; use smallvit::train::{metrics::*, optimizer::*}; use std::time::Instant;
#[global_allocator] static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main(){
 let a: Vec<usize> = std::env::args().skip(2).map(|x|x.parse().unwrap()).collect();
 let name: ModelName = std::env::args().nth(1).unwrap().parse().unwrap();
 let [img,patch,dim,depth,heads,key,mlp,head,batch,steps]=a[..] else {panic!()};
 let c=ModelConfig{image_size:img,patch_size:patch,dim,depth,heads,key_dim:key,mlp:vec![mlp,dim],head: if head==0 {vec![]} else if head==1 {vec![2048,1024]} else {vec![head]},..Default::default()}.named(name);
 let d=Device::flex().autodiff(); let mut m=Vit::new(&c,3,100,0,&d);
 let mut o=AdamW::new(AdamWConfig{beta1:0.9,beta2:0.999,epsilon:1e-7,weight_decay:1e-4,decay_scale:DecayScale::LearningRate,decay_on:DecayOn::All,clip_norm:0.0});
 for s in 0..steps { let x:Vec<f32>=(0..batch*img*img*3).map(|i|((i*7919)%1000) as f32/500.-1.).collect();
  let t=Instant::now();
  let x=Tensor::<4>::from_data(TensorData::new(x,[batch,img,img,3]),&d);
  let l=m.forward(x,&mut Pass::training(0,s as u64)); let tf=t.elapsed();
  let labels:Vec<u32>=(0..batch).map(|i|(i%100) as u32).collect();
  let loss=cross_entropy(l,&labels,0.0); let v:f32=loss.clone().inner().into_scalar(); let g=loss.backward(); let tb=t.elapsed(); m=o.step(m,g,1e-3);
  println!("{s} loss {v:.4} fwd {:.3} bwd {:.3} opt {:.3} total {:.3}",tf.as_secs_f64(),(tb-tf).as_secs_f64(),(t.elapsed()-tb).as_secs_f64(),t.elapsed().as_secs_f64()); }
 println!("{}", std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l|l.starts_with("VmHWM")).unwrap());
}
