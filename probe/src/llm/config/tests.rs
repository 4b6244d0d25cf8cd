use super::*;

fn read(extra: &str) -> serde_json::Result<LlmConfig> {
    let sizes =
        r#""hidden_size":64,"intermediate_size":96,"num_hidden_layers":7,"num_attention_heads":4,"vocab_size":50"#;
    serde_json::from_str(&format!("{{{sizes}{extra}}}"))
}

#[test]
fn a_hub_configuration_reads_with_defaults_and_extra_fields() -> Result<()> {
    let config = read(r#","architectures":["LlamaForCausalLM"],"torch_dtype":"float32","bos_token_id":1"#)?;
    config.check()?;
    assert_eq!((config.kv_heads(), config.head_width(), config.rope_theta), (4, 16, 10_000.0));
    assert_eq!(config.window(3), None);
    Ok(())
}

#[test]
fn both_ways_to_write_angles_mean_the_same() -> Result<()> {
    let factors = r#""rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0"#;
    let scaling = format!(r#"{factors},"original_max_position_embeddings":8192"#);
    let four = read(&format!(r#","rope_theta":5e5,"rope_scaling":{{{scaling}}}"#))?;
    let five = read(&format!(r#","rope_parameters":{{"rope_theta":5e5,{scaling}}}"#))?;
    assert_eq!(four, five);
    assert!(four.rope_scaling.is_some());
    let again: LlmConfig = serde_json::from_str(&serde_json::to_string(&four)?)?;
    assert_eq!(again, four);
    let old = read(r#","rope_scaling":{"type":"linear","factor":2.0}"#)?;
    assert_eq!(old.rope_scaling, Some(RopeScaling::Linear { factor: 2.0 }));
    let error = read(r#","rope_scaling":{"rope_type":"mrope","factor":2.0}"#).unwrap_err().to_string();
    assert!(error.contains("`mrope`") && error.contains("dynamic") && !error.contains("factors"), "{error}");
    Ok(())
}

#[test]
fn windows_are_those_in_use() -> Result<()> {
    let windows = |extra: &str| -> Result<Vec<Option<usize>>> {
        let config = read(extra)?;
        let again: LlmConfig = serde_json::from_str(&serde_json::to_string(&config)?)?;
        assert_eq!(again, config);
        Ok((0..7).map(|i| config.window(i)).collect())
    };
    assert_eq!(windows(r#","model_type":"mistral","sliding_window":5"#)?, [Some(5); 7]);
    assert_eq!(windows(r#","model_type":"mistral","sliding_window":null"#)?, [None; 7]);
    assert_eq!(windows(r#","model_type":"qwen2","sliding_window":5,"max_window_layers":5"#)?, [None; 7]);
    let qwen = windows(r#","model_type":"qwen2","sliding_window":5,"use_sliding_window":true,"max_window_layers":5"#)?;
    assert_eq!(qwen, [None, None, None, None, None, Some(5), Some(5)]);
    let gemma = windows(r#","model_type":"gemma3_text","sliding_window":9"#)?;
    assert_eq!(gemma, [Some(9), Some(9), Some(9), Some(9), Some(9), None, Some(9)]);
    Ok(())
}

#[test]
fn impossible_numbers_are_usage_errors() -> Result<()> {
    let mut config = LlmConfig::nano(96, 4, 768);
    config.num_key_value_heads = Some(3);
    assert!(config.check().unwrap_err().to_string().contains("`num_key_value_heads` = 3"));
    assert!(read(r#","model_type":"falcon""#).is_err_and(|e| e.to_string().contains("falcon")));
    let error = read(r#","hidden_act":"mish""#).unwrap_err().to_string();
    assert!(error.contains("`mish`") && error.contains("gelu_pytorch_tanh"), "{error}");
    let half = read(r#","partial_rotary_factor":0.2"#)?;
    assert!(half.check().unwrap_err().to_string().contains("partial_rotary_factor"));
    Ok(())
}

/// The error message for a configuration with these keys, from parsing or from the check.
fn complaint(extra: &str) -> String {
    let numbers =
        r#"{"hidden_size":64,"intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":4,"vocab_size":50"#;
    let mut map: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&format!("{numbers}}}")).unwrap_or_default();
    let more: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&format!("{{{extra}}}")).unwrap_or_default();
    assert!(!more.is_empty(), "{extra}");
    map.extend(more);
    match LlmConfig::try_from(map).map_err(Error::failed).and_then(|config| config.check()) {
        Ok(()) => panic!("{extra} is taken"),
        Err(e) => e.chain().join(": "),
    }
}

#[test]
fn absurd_numbers_are_errors_with_their_key_before_anything_is_made_of_them() {
    let cases = [
        (r#""num_hidden_layers":1000000000000000000"#, "num_hidden_layers"),
        (r#""num_hidden_layers":1e18"#, "num_hidden_layers"),
        (r#""num_hidden_layers":300000,"model_type":"gemma3_text""#, "num_hidden_layers"),
        (r#""num_hidden_layers":-1"#, "num_hidden_layers"),
        (r#""num_hidden_layers":2.5"#, "num_hidden_layers"),
        (r#""num_hidden_layers":"2""#, "num_hidden_layers"),
        (r#""num_hidden_layers":0"#, "num_hidden_layers"),
        (r#""hidden_size":1000000000000"#, "hidden_size"),
        (r#""hidden_size":66"#, "hidden_size"),
        (r#""intermediate_size":18446744073709551615"#, "intermediate_size"),
        (r#""vocab_size":1000000000"#, "vocab_size"),
        (r#""num_attention_heads":0"#, "num_attention_heads"),
        (r#""num_attention_heads":1000000000000"#, "num_attention_heads"),
        (r#""num_key_value_heads":3"#, "`num_key_value_heads` = 3"),
        (r#""num_key_value_heads":0"#, "num_key_value_heads"),
        (r#""head_dim":0"#, "head_dim"),
        (r#""head_dim":7"#, "head's 7 channels"),
        (r#""head_dim":4000000000"#, "head_dim"),
        (r#""rms_norm_eps":-1"#, "rms_norm_eps"),
        (r#""rms_norm_eps":null"#, "rms_norm_eps"),
        (r#""rms_norm_eps":1e300"#, "rms_norm_eps"),
        (r#""layer_norm_eps":-1e-5,"model_type":"cohere""#, "layer_norm_eps"),
        (r#""norm_epsilon":-1e-5,"model_type":"starcoder2""#, "norm_epsilon"),
        (r#""rope_theta":0"#, "rope_theta"),
        (r#""rope_theta":-1e4"#, "rope_theta"),
        (r#""rope_theta":null"#, "rope_theta"),
        (r#""rope_theta":"1e4""#, "rope_theta"),
        (r#""rope_parameters":{"rope_theta":null}"#, "rope_theta"),
        (r#""rope_scaling":{"rope_type":"linear","factor":0}"#, "factor"),
        (r#""rope_scaling":{"rope_type":"dynamic","factor":-2.0}"#, "factor"),
        (r#""rope_scaling":{"rope_type":"yarn","factor":4.0,"beta_fast":-1}"#, "beta_fast"),
        (r#""rope_scaling":[1]"#, "rope_scaling"),
        (r#""partial_rotary_factor":0"#, "partial_rotary_factor"),
        (r#""partial_rotary_factor":1.5"#, "partial_rotary_factor"),
        (r#""attn_logit_softcapping":0,"model_type":"gemma2""#, "attn_logit_softcapping"),
        (r#""final_logit_softcapping":-30,"model_type":"gemma2""#, "final_logit_softcapping"),
        (r#""final_logit_softcapping":30"#, "final_logit_softcapping"),
        (r#""query_pre_attn_scalar":0,"model_type":"gemma2""#, "query_pre_attn_scalar"),
        (r#""logits_scaling":0,"model_type":"granite""#, "logits_scaling"),
        (r#""embedding_multiplier":null,"model_type":"granite""#, "embedding_multiplier"),
        (r#""logit_scale":0,"model_type":"cohere2""#, "logit_scale"),
        (r#""use_qk_norm":true,"model_type":"cohere""#, "use_qk_norm"),
        (r#""use_parallel_residual":true,"model_type":"stablelm""#, "use_parallel_residual"),
        (r#""clip_qkv":-1,"model_type":"olmo""#, "clip_qkv"),
        (r#""no_rope_layers":[1],"model_type":"smollm3""#, "no_rope_layers"),
        (r#""no_rope_layer_interval":0,"model_type":"smollm3""#, "no_rope_layer_interval"),
        (r#""layer_types":["full_attention"]"#, "layer_types"),
        (r#""layer_types":["linear_attention","full_attention"]"#, "layer_types"),
        (r#""num_experts_per_tok":2,"model_type":"mixtral""#, "num_experts"),
        (r#""num_experts_per_tok":9,"num_local_experts":8,"model_type":"mixtral""#, "num_experts_per_tok"),
        (r#""num_experts_per_tok":1,"num_local_experts":100000000,"model_type":"mixtral""#, "num_experts"),
        (r#""attention_bias":"yes""#, "attention_bias"),
        (r#""initializer_range":-1"#, "initializer_range"),
        (r#""max_position_embeddings":0"#, "max_position_embeddings"),
        (r#""sliding_window":0,"model_type":"mistral""#, "sliding_window"),
    ];
    for (extra, key) in cases {
        let error = complaint(extra);
        assert!(error.contains(key) && !error.contains("usize") && error.len() < 400, "{extra}: {error}");
    }
}

#[test]
fn what_a_file_leaves_out_is_as_its_class_assumes_it() -> Result<()> {
    let of = |extra: &str| read(&format!(r#","model_type":{extra}"#));
    let gemma = of(r#""gemma2""#)?;
    assert_eq!((gemma.attn_logit_softcapping, gemma.final_logit_softcapping), (Some(50.0), Some(30.0)));
    assert_eq!((gemma.head_width(), gemma.activation, gemma.tie_word_embeddings), (256, Activation::GeluTanh, true));
    assert_eq!((gemma.window(0), gemma.window(1)), (Some(4096), None));
    let uncapped =
        of(r#""gemma2","attn_logit_softcapping":null,"final_logit_softcapping":null,"sliding_window":null"#)?;
    assert_eq!((uncapped.attn_logit_softcapping, uncapped.window(0)), (None, None));
    let again: LlmConfig = serde_json::from_str(&serde_json::to_string(&uncapped)?)?;
    assert_eq!(again, uncapped);
    let smol = of(r#""smollm3""#)?;
    assert_eq!((0..7).map(|i| smol.rotates(i)).collect::<Vec<_>>(), [true, true, true, false, true, true, true]);
    assert_eq!((smol.rope_theta, smol.tie_word_embeddings), (2e6, true));
    let smol = of(r#""smollm3","use_sliding_window":true,"sliding_window":5"#)?;
    assert_eq!((smol.window(2), smol.window(3), smol.window(4)), (None, Some(5), None));
    let qwen = of(r#""qwen2","use_sliding_window":true,"sliding_window":5"#)?;
    assert_eq!(qwen.window(6), None);
    let cohere = of(r#""cohere2","sliding_window":9"#)?;
    assert_eq!((0..7).map(|i| cohere.rotates(i)).collect::<Vec<_>>(), [true, true, true, false, true, true, true]);
    assert_eq!((cohere.logit_scale, cohere.rms_norm_eps), (Some(0.0625), 1e-5));
    assert_eq!(of(r#""mistral""#)?.window(0), Some(4096));
    assert_eq!(of(r#""glm4""#)?.partial_rotary_factor, 0.5);
    assert_eq!(of(r#""qwen3""#)?.head_width(), 128);
    let coder = of(r#""starcoder2","use_bias":false"#)?;
    assert!(!coder.qkv_bias() && !coder.output_bias() && !coder.mlp_bias && of(r#""starcoder2""#)?.mlp_bias);
    // Both keys of the activation, as in Gemma 2's files on the hub.
    assert_eq!(
        of(r#""gemma2","hidden_act":"gelu_pytorch_tanh","hidden_activation":"gelu""#)?.activation,
        Activation::Gelu
    );
    let dynamic = read(r#","max_position_embeddings":64,"rope_scaling":{"type":"dynamic","factor":2.0}"#)?;
    assert_eq!((dynamic.longest(), dynamic.max_position_embeddings), (None, 64));
    Ok(())
}
