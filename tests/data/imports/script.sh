#!/bin/bash
# Written for this test: LLaMA-Factory started with flags.
MODEL=org/base-8b
export RANK="32"
CUDA_VISIBLE_DEVICES=0 llamafactory-cli train \
    --model_name_or_path ${MODEL} \
    --stage sft --do_train \
    --finetuning_type lora --lora_rank $RANK \
    --dataset data/rows.jsonl \
    --cutoff_len 1024 \
    --learning_rate 1e-5 \
    --num_train_epochs 2.0 \
    --output_dir $OUTPUT \
    --bf16
